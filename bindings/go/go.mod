module libindexcache.invalid/go

go 1.24
