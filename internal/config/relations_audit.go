package config

// audit checks the keys that name the database of the audit log and its logins.
func (d *decoder) audit(a Audit) {
	if !d.has("audit") || d.failed["audit"] || d.failed["audit.embedded"] || !d.auditDatabase(a.Embedded) {
		return
	}
	d.sealerLogin(a.Embedded)
	d.migrationLogin(a.Embedded)
}

// given are the paths whose keys the file gives.
func (d *decoder) given(paths ...string) (given []string) {
	for _, path := range paths {
		if d.has(path) {
			given = append(given, path)
		}
	}
	return given
}

// auditDatabase checks that exactly one database is given; it is false if none is.
func (d *decoder) auditDatabase(embedded bool) bool {
	switch databases := d.given("audit.database_url_file", "audit.database_url_env"); {
	case len(databases) > 1:
		d.failAt(d.keys[databases[1]], databases[1], "keep one of the two", "%s is given too", databases[0])
	case len(databases) == 1 && embedded:
		d.failAt(d.keys[databases[0]], databases[0], "keep one of the two", "audit.embedded is true, and a database is given too")
	case len(databases) == 0 && !embedded:
		d.failAt(d.keys["audit"], "audit",
			"add database_url_file (or database_url_env) for a PostgreSQL of yours, or embedded: true for one that sallyport runs under data_directory",
			"no place for the audit log is given")
		return false
	}
	return true
}

func (d *decoder) sealerLogin(embedded bool) {
	switch sealers := d.given("audit.sealer_database_url_file", "audit.sealer_database_url_env"); {
	case len(sealers) > 1:
		d.failAt(d.keys[sealers[1]], sealers[1], "keep one of the two", "%s is given too", sealers[0])
	case len(sealers) == 1 && embedded:
		d.failAt(d.keys[sealers[0]], sealers[0], "remove it", "the embedded database has a login of its own for sealing")
	}
}

func (d *decoder) migrationLogin(embedded bool) {
	switch migration := d.has("audit.migration_url_file"); {
	case !migration && !embedded:
		d.failAt(d.keys["audit"], "audit.migration_url_file", "add it; sallyport migrate logs in with it, as a member of sallyport_owner",
			"the key is required unless embedded is true, and missing")
	case migration && embedded:
		d.failAt(d.keys["audit.migration_url_file"], "audit.migration_url_file", "remove it", "the embedded database migrates by itself")
	}
}
