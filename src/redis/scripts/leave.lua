-- A client goes, and tells so: what it has charged is given back. ARGV: client.

retire(client)
return 1
