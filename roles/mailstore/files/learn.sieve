# A letter was moved: into Junk it is spam; out of Junk it is ham, unless it was thrown away.
# Unit mailboxes have a Junk of their own, below the unit's folder.
require [
  "copy", "environment", "imapsieve", "variables",
  "vnd.dovecot.environment", "vnd.dovecot.imapsieve", "vnd.dovecot.pipe"
];

# Only a copied or moved letter comes from a folder; Dovecot crashes if an appended one is asked.
if environment "imap.cause" "COPY" {
  if environment :matches "vnd.dovecot.mailbox-from" ["Junk", "*/Junk"] {
    set "from" "junk";
  }
}
if environment :matches "imap.mailbox" ["Junk", "*/Junk"] {
  if not string "${from}" "junk" {
    pipe :copy "learn" ["spam"];
  }
} elsif allof (
  string "${from}" "junk",
  not environment :matches "imap.mailbox" ["Trash", "*/Trash"]
) {
  pipe :copy "learn" ["ham"];
}
