-- A letter that Sieve passes on comes from a store, as what is written there does, but anybody may
-- have written it: with a signature of ours it would be ours. If it is, it was signed before.
if odkim.get_header(ctx, "X-Sieve-Redirected-From", 0) ~= nil then
    odkim.set_result(ctx, SMFIS_ACCEPT)
end
