# A program has filed a letter into a unit's Sent. Where the server did so before (unit-sent.sieve)
# this one goes again; otherwise the server's will not come.
require [
  "copy", "duplicate", "environment", "imapsieve", "variables", "vnd.dovecot.pipe"
];

# By the name that members see, "Sở Nội vụ (snv)", or by the code alone.
if environment :matches "imap.mailbox" "*/*(*)/Sent" {
  set :lower "unit" "${3}";
} elsif environment :matches "imap.mailbox" "*/*/Sent" {
  set :lower "unit" "${2}";
}
if not string "${unit}" "" {
  if header :matches "Message-ID" "*" {
    set "id" "${1}";
    if duplicate :handle "unit-sent-${unit}" :header "Message-ID" :seconds 172800 {
      pipe :copy "filed-once" ["${unit}", "${id}"];
    }
  }
}
