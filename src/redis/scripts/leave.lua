-- A client goes, and tells so: what it has charged is given back. Where it was the last one, nothing is left. ARGV: client.

retire(client)
if redis.call('EXISTS', clients) == 0 then
  redis.call('DEL', load, prefix .. 'pods')
end
return 1
