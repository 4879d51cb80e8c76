-- Somebody has logged in with a password that is kept as another system's hash. The passdb before this
-- one has checked it; whether it can be stored anew decides nothing.
function auth_password_verify(request, password)
  local rehash = io.popen("/usr/local/lib/site-mailstore/rehash", "w")
  rehash:write(request:var_expand("%{passdb:entry}"), "\n", password)
  rehash:close()
  -- Dovecot counts who holds a request, and Lua lets go of it only when it tidies up.
  request = nil
  collectgarbage()
  return dovecot.auth.PASSDB_RESULT_OK, {}
end
