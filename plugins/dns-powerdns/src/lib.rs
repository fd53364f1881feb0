//! plugin-dns-powerdns
