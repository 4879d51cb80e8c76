# What the filter on mx marked as spam goes to Junk, before any script of the user's own: so no
# vacation reply and no redirect answers spam.
require ["fileinto", "mailbox"];

if header :is "X-Spam-Flag" "YES" {
  fileinto :create "Junk";
}
