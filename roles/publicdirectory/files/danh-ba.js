// The public directory: search without diacritics, addresses on request. Nothing is asked of any other
// server, and every page can be read without this script.
'use strict';

const SHOWN = 50;
const root = document.body.dataset.root;

// As the webmail's address book: lower case, no diacritics, đ as d.
function folded(text) {
    return text.toLowerCase().normalize('NFD').replace(/\p{M}/gu, '').replace(/đ/g, 'd');
}

function words(text) {
    return folded(text).split(/[^\p{L}\p{N}]+/u).filter(Boolean);
}

function digits(text) {
    return text.replace(/[^0-9]/g, '');
}

function element(name, text, properties = {}) {
    return Object.assign(document.createElement(name), {textContent: text, ...properties});
}

// -- when the pages were last compared with the directory ------------------------------------------
fetch(`${root}doi-chieu.json`, {cache: 'no-cache'})
    .then(answer => answer.json())
    .then(({checked, words}) => {
        const note = document.getElementById('doi-chieu');
        const time = note.querySelector('time');
        time.dateTime = checked;
        time.textContent = words;
        note.hidden = false;
    })
    // The page says when it was made; that suffices.
    .catch(() => {});

// -- addresses on request ----------------------------------------------------------------------------
for (const button of document.querySelectorAll('button[data-veiled]')) {
    button.hidden = false;
    button.addEventListener('click', () => {
        const address = [...atob(button.dataset.veiled)].reverse().join('');
        const link = element('a', address, {href: `mailto:${address}`});
        button.replaceWith(link);
        link.focus();
    });
}

// -- on paper everything is open -----------------------------------------------------------------------
const opened = [];
window.addEventListener('beforeprint', () => {
    for (const details of document.querySelectorAll('details:not([open])')) {
        details.open = true;
        opened.push(details);
    }
});
window.addEventListener('afterprint', () => {
    for (const details of opened.splice(0)) {
        details.open = false;
    }
});

// -- search ----------------------------------------------------------------------------------------------
const form = document.getElementById('tim-kiem');
if (form) {
    const field = document.getElementById('tim');
    const status = document.getElementById('so-ket-qua');
    const list = document.getElementById('ket-qua');
    const tree = document.getElementById('cay');
    const units = new Map();
    const entries = [];
    let people = null;
    let missing = false;

    for (const item of document.querySelectorAll('li.unit')) {
        const name = item.querySelector(':scope > .name').textContent;
        const contact = item.querySelector(':scope > .contact')?.textContent ?? '';
        units.set(item.id, name);
        entries.push({
            code: item.id, name, about: contact.trim().replace(/\s+/g, ' '),
            words: [item.id, ...words(`${name} ${item.id} ${contact}`)],
            start: words(name).join(' '), digits: digits(contact),
        });
    }

    // People come in pieces, and only to who searches.
    function loadPeople() {
        people ??= Promise.all(Array.from({length: Number(form.dataset.files)}, async (_, number) => {
            const answer = await fetch(`tim-kiem/${number + 1}.json`, {cache: 'no-cache'});
            if (!answer.ok) {
                throw new Error(answer.statusText);
            }
            for (const [code, name, title, phone] of await answer.json()) {
                // The name of a unit is on the page, unless it is new since.
                const unit = units.get(code) ?? code;
                entries.push({
                    code, name, about: [title, unit, phone].filter(Boolean).join(' · '),
                    words: words(`${name} ${title}`), start: words(name).join(' '), digits: digits(phone),
                });
            }
            search();
        })).catch(() => {
            missing = true;
            search();
        });
    }

    function found(query) {
        const number = digits(query);
        if (number.length >= 3 && !/\p{L}/u.test(query)) {
            return entries.filter(entry => entry.digits.includes(number));
        }
        const wanted = words(query);
        const start = wanted.join(' ');
        const hits = entries.filter(
            entry => wanted.every(word => entry.words.some(own => own.startsWith(word))));
        // What begins as was typed comes first, whole words before parts of words; otherwise the order
        // of the directory stays.
        const begins = hits.filter(hit => `${hit.start} `.startsWith(`${start} `));
        const almost = hits.filter(hit => hit.start.startsWith(start) && !begins.includes(hit));
        return [...begins, ...almost, ...hits.filter(hit => !hit.start.startsWith(start))];
    }

    function search() {
        const query = field.value.trim();
        const searching = words(query).length > 0;
        tree.hidden = searching;
        list.hidden = !searching;
        list.replaceChildren();
        if (!searching) {
            status.textContent = '';
            return;
        }
        const hits = found(query);
        for (const hit of hits.slice(0, SHOWN)) {
            const item = element('li', '');
            item.append(element('a', hit.name, {href: `don-vi/${hit.code}/`, className: 'name'}));
            if (hit.about) {
                item.append(' ', element('span', hit.about, {className: 'about'}));
            }
            list.append(item);
        }
        let said = hits.length === 0 ? 'Không tìm thấy kết quả nào.' : `Tìm thấy ${hits.length} kết quả.`;
        if (hits.length > SHOWN) {
            said += ` Đang hiện ${SHOWN} kết quả đầu; hãy gõ thêm để thu hẹp.`;
        }
        if (missing) {
            said += ' Chưa tải được danh sách cán bộ, công chức; hãy tải lại trang.';
        }
        status.textContent = said;
    }

    field.addEventListener('input', () => {
        loadPeople();
        search();
        // A search can be passed on as a link.
        const query = field.value.trim();
        history.replaceState(null, '', query ? `?tim=${encodeURIComponent(query)}` : location.pathname);
    });
    field.addEventListener('keydown', event => {
        if (event.key === 'Escape') {
            field.value = '';
            field.dispatchEvent(new Event('input'));
        }
    });
    form.addEventListener('submit', event => {
        event.preventDefault();
        list.querySelector('a')?.focus();
    });

    form.hidden = false;
    field.value = new URLSearchParams(location.search).get('tim') ?? '';
    if (field.value) {
        loadPeople();
        search();
    }
}
