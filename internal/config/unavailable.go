package config

// unavailable lists what the configuration's language has and this version has not. Such a key is decoded and checked
// like any other and then refused: passed over in silence it would be a promise that nobody keeps. A feature that is
// built loses its line here (and its remark in schema_keys.go), and nothing else changes.
var unavailable = []struct {
	path  string
	value func(*Config) bool // whether the value is the one that is not available; nil: every value
	what  string
	hint  string
}{
	{
		path: "audit.on_outage", what: OutageSpool,
		value: func(c *Config) bool { return c.Audit.OnOutage == OutageSpool },
		hint:  "write " + OutageDeny + ", the default",
	},
}

func (d *decoder) refuseUnavailable(cfg *Config) {
	for _, u := range unavailable {
		if !d.has(u.path) || u.value != nil && !u.value(cfg) {
			continue
		}
		at := d.keys[u.path]
		if u.value != nil {
			at = d.values[u.path]
		}
		d.failAt(at, u.path, u.hint, "%s is not available in this version", u.what)
	}
}
