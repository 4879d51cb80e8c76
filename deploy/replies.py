"""What replies of mail servers mean: the one table for the help desk and for both guides.

`trace` (deploy/letters.py) puts the Vietnamese meaning before the reply; `make docs` writes the
tables of docs/van-hanh.md and docs/operations.md.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reply:
    """One kind of reply."""

    shown: str
    """The reply as the guides show it, in Markdown."""
    words: str
    """A pattern that finds it in a journal; empty: it is no reply to a letter, or too general."""
    vietnamese: str
    """What it means and what to do, in Markdown."""
    english: str


OURS = (
    Reply(
        "550 5.1.1 `User unknown`",
        "User unknown|no mailbox is on this host",
        "không có địa chỉ này, hoặc hộp thư đã đóng: xem lại chính tả",
        "no such address, or a mailbox that was closed: check the spelling",
    ),
    Reply(
        "550 5.1.2, 5.1.8 `Domain not found`",
        "Domain not found",
        "tên miền của người nhận, hoặc người gửi, không tồn tại",
        "the recipient's, or the sender's, domain does not exist",
    ),
    Reply(
        "535 5.7.8, `[AUTHENTICATIONFAILED]`",
        "",
        "sai mật khẩu, tài khoản bị khóa, hoặc tài khoản không được dùng dịch vụ đó",
        "wrong password, locked account, or a service that the account may not use",
    ),
    Reply(
        "`Hay doi mat khau tai https://…`",
        "",
        "mật khẩu dùng một lần: hãy đổi trong webmail trước",
        "a one-time password: change it in the webmail first",
    ),
    Reply(
        "550 5.7.8 `Tai khoan nay khong con duoc gui thu`",
        "khong con duoc gui thu",
        "tài khoản đã bị khóa hoặc mất quyền gửi trong lúc đang kết nối",
        "the account was locked, or lost the right to send, while it was connected",
    ),
    Reply(
        "550 5.7.1 `senders of this domain use its submission service`",
        "senders of this domain use its submission",
        "có người bên ngoài dùng địa chỉ của ta hoặc của một tên miền bổ sung: đặt phần mềm gửi "
        "qua "
        "`mail.…`, cổng 465",
        "somebody outside uses one of our addresses, or one of a further domain: set the "
        "program to "
        "`mail.…`, port 465",
    ),
    Reply(
        "550 5.7.1 `Thu bi tu choi: ong/ba khong duoc gui den danh sach …`",
        "khong duoc gui den danh sach",
        "người gửi không được gửi đến danh sách thư này (cột `posters` của bảng `lists`, hoặc "
        "`mta.list_posters`)",
        "a distribution list to which this sender may not write (column `posters` of `lists`, or "
        "`mta.list_posters`)",
    ),
    Reply(
        "5.1.1 `Danh sach khong co ai`",
        "Danh sach khong co ai",
        "danh sách thư này hiện không có ai",
        "nobody is in this distribution list at present",
    ),
    Reply(
        "553 5.7.1 `Sender address rejected: not owned by user`",
        "not owned by user|not logged in",
        "tài khoản này không được gửi bằng địa chỉ đó",
        "this account may not send as that address",
    ),
    Reply(
        "554 5.7.1 `Thu bi tu choi: ong/ba khong duoc ghi nguoi gui la …`",
        "khong duoc ghi nguoi gui la",
        "dòng From của thư ghi người khác, không phải tài khoản, bí danh hay đơn vị của người gửi; "
        "vì thế webmail không có nút “Gửi lại” (gửi lại với From cũ)",
        "the letter's From names somebody else than the account, its aliases and its units; so the "
        "webmail has no “Gửi lại” (resend with the former From)",
    ),
    Reply(
        "550 5.7.23 `… due to SPF`",
        "due to SPF",
        "tên miền gửi không công nhận máy chủ đó",
        "the sender's domain disowns that server",
    ),
    Reply(
        "554 5.7.1 `Relay access denied`",
        "Relay access denied",
        "cổng 25 không dùng để gửi thư ra ngoài",
        "port 25 is not for sending out",
    ),
    Reply(
        "552 5.2.2 `Hop thu nguoi nhan da day`, 5.2.3 `Thu qua lon …`",
        "Hop thu nguoi nhan da day|Thu qua lon so voi dung luong",
        "hộp thư người nhận đã đầy, hoặc không còn chỗ cho thư này",
        "the recipient's mailbox is full, or has no room for this letter",
    ),
    Reply(
        "552 5.3.4",
        r"\b5\.3\.4\b|size exceeds|size limit",
        "lớn hơn `mta.message_size`",
        "larger than `mta.message_size`",
    ),
    Reply(
        "554 5.7.1 `Thu bi tu choi: co ma doc …`",
        "Thu bi tu choi: co ma doc",
        "có mã độc; sau đó là tên mẫu nhận dạng",
        "malware; the name of the signature follows",
    ),
    Reply(
        "554 5.7.1 `Thu bi tu choi: khong duoc gui tep chuong trinh …`",
        "khong duoc gui tep chuong trinh",
        "tệp đính kèm thuộc loại bị cấm, kể cả trong tệp ZIP",
        "an attachment of a refused type, also within a ZIP",
    ),
    Reply(
        "554 5.7.1 `Thu bi tu choi: van ban co do mat (…)`",
        "van ban co do mat",
        "thư hoặc tệp đính kèm có dấu chỉ độ mật (`filtering.secret_marks`; điều 5 và 13). Bản "
        "quét "
        "và PDF không đọc được: người gửi tự kiểm tra",
        "the letter or an attachment is marked as secret (`filtering.secret_marks`; articles 5 and "
        "13). Scanned pages and PDF are not read: the mark there is the sender's to mind",
    ),
    Reply(
        "554 5.7.1 `Thu bi tu choi: tep dinh kem khong the kiem tra duoc …`",
        "tep dinh kem khong the kiem tra duoc",
        "tệp nén quá lớn hoặc quá sâu (hoặc có mật khẩu, nếu bị cấm)",
        "an archive too large or too deep (or with a password, where that is refused)",
    ),
    Reply(
        "554 5.7.1 `Thu bi tu choi: thu bi chia thanh nhieu phan …`",
        "thu bi chia thanh nhieu phan",
        "phần mềm gửi chia thư thành nhiều phần (message/partial) nên không quét được: tắt chức "
        "năng đó",
        "the program cuts letters into parts (message/partial), which cannot be scanned: switch "
        "that off",
    ),
    Reply(
        "550 5.7.1 `Thu bi tu choi vi bi coi la thu rac (diem …)`",
        "bi coi la thu rac",
        "điểm thư rác từ `reject_score` trở lên; với người dùng của ta là `outgoing_reject_score`",
        "spam score from `reject_score` on; from our own users `outgoing_reject_score`",
    ),
    Reply(
        "451 4.7.1 `He thong kiem tra thu tam thoi khong hoat dong …`",
        "He thong kiem tra thu tam thoi|Service unavailable - try again later",
        "bộ lọc đang ngừng; nơi gửi sẽ gửi lại",
        "the filter is away; the sender tries again",
    ),
    Reply(
        "450 4.7.1 `Gui qua nhieu thu …`",
        "Gui qua nhieu thu",
        "một người đã dùng hết `mta.recipients_per_hour` hoặc `recipients_per_day`",
        "one person's `mta.recipients_per_hour` or `recipients_per_day` is used up",
    ),
    Reply(
        "550 5.5.1 `Protocol error`",
        "Protocol error",
        "máy gửi nói trước khi được chào, hoặc trái quy tắc SMTP (postscreen): gần như luôn là máy "
        "phát tán thư rác",
        "the server spoke before it was greeted, or against SMTP (postscreen): almost always a "
        "robot",
    ),
    Reply(
        "550 5.7.1 `Service unavailable; client […] blocked using …`",
        r"blocked using|Service unavailable; client",
        "máy gửi có trong danh sách chặn (`mta.dnsbl_sites`): bên gửi phải xin gỡ ở đó",
        "the server is on a block list (`mta.dnsbl_sites`): its owner has to ask there",
    ),
    Reply(
        "450 4.3.2 `Service currently unavailable`, 421 4.3.2 `All server ports are busy`",
        "Service currently unavailable|server ports (are )?busy|screening ports (are )?busy",
        "máy gửi còn lạ (`mta.deep_tests`), hoặc đang có quá nhiều kết nối: máy chủ thật sẽ tự gửi "
        "lại sau vài phút",
        "the server is still unknown (`mta.deep_tests`), or too many are connected: a real one "
        "tries "
        "again after minutes",
    ),
    Reply(
        "550, 521 5.5.2 `bare <LF> received`",
        r"bare <?(LF|newline)",
        "phần mềm của bên gửi quá cũ, kết thúc dòng chỉ bằng LF (`mta.bare_newlines`)",
        "the sender's program is too old and ends lines with a lone LF (`mta.bare_newlines`)",
    ),
    Reply(
        "504, 550 `Helo command rejected`",
        "Helo command rejected",
        "máy gửi xưng tên sai quy tắc, hoặc xưng tên của ta",
        "the server says no proper name, or one of ours",
    ),
    Reply(
        "450 4.7.25 `cannot find your reverse hostname`",
        "cannot find your (reverse )?hostname",
        "địa chỉ của máy gửi không có tên trong DNS (`mta.require_reverse_dns`): bên gửi phải sửa",
        "the server's address has no name in DNS (`mta.require_reverse_dns`): for its owner to "
        "mend",
    ),
    Reply(
        "421, 450 4.7.0, 4.7.1 `too many connections`, `too much mail`, `too many recipients`",
        r"too many (connections|recipients|errors)|too much mail|"
        r"(connection|message|recipient|auth) rate",
        "một máy gửi quá nhiều cùng lúc (`mta.client_…`, `unlimited_networks`), hoặc một thư có "
        "quá "
        "nhiều người nhận",
        "one machine sends too much at a time (`mta.client_…`, `unlimited_networks`), or a "
        "letter has "
        "too many recipients",
    ),
    Reply(
        "452 4.3.1 `Insufficient system storage`",
        "Insufficient system (storage|resource)",
        "đĩa của máy nhận sắp đầy (`mta.free_space`): giải phóng dung lượng; thư sẽ được gửi lại",
        "the disk is nearly full (`mta.free_space`): make room; the sender tries again",
    ),
    Reply(
        "451 4.3.0 `Temporary lookup failure`, `Tam thoi khong tra cuu duoc …`",
        "Temporary lookup failure|Tam thoi khong tra cuu duoc|Server configuration",
        "danh bạ tạm thời không trả lời; nơi gửi sẽ gửi lại",
        "the directory does not answer for now; the sender tries again",
    ),
    Reply(
        "501, 504, 550 `need fully-qualified address`, `Bad … address syntax`",
        "need fully-qualified|address syntax",
        "địa chỉ viết thiếu hoặc sai",
        "an address that is incomplete or misspelt",
    ),
    Reply(
        "450, 451, 452",
        "",
        "chỉ là tạm thời: tra cứu không được, quá nhiều cùng lúc, đầy đĩa",
        "for now only: look-up failed, too many at once, disk full",
    ),
)
"""What our own servers reply."""

OTHERS = (
    Reply(
        "`Connection refused`, `No route to host`, `Network is unreachable`",
        "Connection refused|No route to host|Network is unreachable",
        "máy nhận không trả lời; thư chờ trong hàng đợi và tự được gửi lại",
        "the other server does not answer; the letter waits and is sent again",
    ),
    Reply(
        "`timed out`, `lost connection`",
        "timed out|lost connection",
        "máy nhận không trả lời kịp, hoặc đường truyền bị ngắt; thư tự được gửi lại",
        "the other server was too slow, or the line broke; the letter is sent again",
    ),
    Reply(
        "`Host or domain name not found`",
        "Host (or domain name )?not found|Host found but no data|Name service error",
        "DNS không biết máy nhận: tên miền viết sai, hoặc DNS đang hỏng (khi đó thư tự được gửi "
        "lại)",
        "DNS does not know the other server: a misspelt domain, or DNS is down (then it is sent "
        "again)",
    ),
    Reply(
        "`does not accept mail (nullMX)`",
        "nullMX|null MX",
        "tên miền đó công bố là không nhận thư",
        "that domain says that it takes no mail",
    ),
    Reply(
        "450, 451 `… greylisted …`",
        "gr[ea]y-?list",
        "máy nhận bắt chờ lần đầu (greylisting); thư tự được gửi lại và sẽ tới",
        "the other server lets strangers wait once (greylisting); it will arrive",
    ),
    Reply(
        "`… certificate …`, `TLS is required`, `Cannot start TLS`",
        "certificate|TLS is required|Cannot start TLS|TLSA",
        "không lập được kết nối mã hóa đáng tin với máy nhận; thư tự được gửi lại",
        "no encrypted connection that can be trusted; the letter is sent again",
    ),
    Reply(
        "552, 452 `… over quota`, `mailbox full`",
        r"\b[45]\.2\.2\b|over quota|quota exceeded|mailbox (is )?full",
        "hộp thư của người nhận ở bên kia đã đầy",
        "the recipient's mailbox at the other side is full",
    ),
    Reply(
        "550 5.1.1, 5.1.10",
        r"\b5\.1\.(0|1|2|6|10)\b|no such user|user unknown|does not exist|unknown user",
        "bên nhận báo không có địa chỉ này: xem lại chính tả",
        "the other side knows no such address: check the spelling",
    ),
    Reply(
        "550, 554 5.7.…",
        r"\b5\.7\.\d+\b|spam|blocked|blacklist|block list|reputation|policy",
        "bên nhận từ chối vì quy định của họ (thư rác, danh sách chặn, SPF, DKIM, DMARC): đọc "
        "câu trả "
        "lời, liên hệ quản trị bên đó",
        "the other side refuses by its policy (spam, block list, SPF, DKIM, DMARC): read the "
        "reply, "
        "write to its postmaster",
    ),
)
"""What servers of others reply, and what keeps us from reaching them."""


def meaning(text: str, *, outside: bool = False) -> str:
    """What a reply means, in Vietnamese without Markdown; nothing where it is not known.

    Args:
        text: the reply as the journal has it.
        outside: whether a server of others replied.
    """
    for reply in (*OTHERS, *OURS) if outside else (*OURS, *OTHERS):
        if reply.words and re.search(reply.words, text, re.IGNORECASE):
            return reply.vietnamese.replace("`", "")
    return ""


def table(replies: Iterable[Reply], language: str) -> str:
    """The table of a guide.

    Args:
        replies: `OURS` or `OTHERS`.
        language: `vietnamese` or `english`.
    """
    head = "câu trả lời | ý nghĩa" if language == "vietnamese" else "reply | meaning"
    rows = [f"| {reply.shown} | {getattr(reply, language)} |\n" for reply in replies]
    return f"| {head} |\n| --- | --- |\n{''.join(rows)}"
