package sallyport.lib_test

import data.sallyport.lib

test_host_exact if lib.host_in("a.example", {"a.example", "b.example"})

test_host_exact_in_list if lib.host_in("a.example", ["a.example"])

test_host_exact_in_object if lib.host_in("a.example", {"a.example": {}})

test_host_not_listed if not lib.host_in("c.example", {"a.example", "b.example"})

test_host_in_nothing if not lib.host_in("c.example", set())

test_wildcard_one_label if lib.host_in("x.a.example", {"*.a.example"})

test_wildcard_more_labels if lib.host_in("z.y.x.a.example", ["*.a.example"])

test_wildcard_in_object if lib.host_in("x.a.example", {"*.a.example": true})

test_wildcard_in_object_with_false_value if lib.host_in("x.a.example", {"*.a.example": false})

test_wildcard_never_the_apex if not lib.host_in("a.example", {"*.a.example"})

test_wildcard_by_label_only if not lib.host_in("evila.example", {"*.a.example", "a.example"})

test_wildcard_no_other_suffix if not lib.host_in("x.a.example.evil.test", {"*.a.example"})

test_bare_star_matches_nothing if not lib.host_in("a.example", {"*", "*.", "*.*"})

test_single_label if not lib.host_in("localhost", {"*.localhost", "*"})

test_object_values_are_no_hosts if not lib.host_in("b.example", {"a.example": "b.example"})

test_address_has_no_wildcards if not lib.host_in("192.0.2.1", {"*.0.2.1", "*.2.1", "*.1"})

test_address_exact if lib.host_in("192.0.2.1", {"192.0.2.1"})

test_is_address if {
	lib.is_address("192.0.2.1")
	lib.is_address("2001:db8::1")
	not lib.is_address("a1.example")
	not lib.is_address("1.2.example")
}

test_port if {
	lib.port_in(443, [443, 8443])
	lib.port_in(8080, ["8000-8099"])
	lib.port_in(8000, ["8000-8099"])
	lib.port_in(8099, {"8000-8099"})
	not lib.port_in(8100, ["8000-8099"])
	not lib.port_in(80, [443, "8000-8099"])
	lib.port_in(8050, ["8000 - 8099"])
	lib.port_in(443, ["443"])
	not lib.port_in(443, ["https", "400-", {"from": 400}])
}

test_target_default_port if {
	lib.target_in({"host": "a.example", "port": 443}, {"a.example"})
	not lib.target_in({"host": "a.example", "port": 8443}, {"a.example"})
}

test_target_with_port if {
	lib.target_in({"host": "a.example", "port": 8443}, {"a.example:8443"})
	lib.target_in({"host": "x.a.example", "port": 8443}, {"*.a.example:8443"})
	lib.target_in({"host": "2001:db8::1", "port": 22}, {"[2001:db8::1]:22"})
	not lib.target_in({"host": "a.example", "port": 443}, {"a.example:8443"})
	not lib.target_in({"host": "a.example", "port": 8443}, {"*.a.example:8443"})
}

now := time.parse_rfc3339_ns("2026-11-21T08:40:00Z")

test_exception_counts if {
	lib.active({"owner": "kim@acme.example", "until": "2026-11-21T08:40:01Z"}) with time.now_ns as now
}

test_exception_ends if {
	not lib.active({"owner": "kim@acme.example", "until": "2026-11-21T08:40:00Z"}) with time.now_ns as now
}

test_exception_needs_owner_and_end if {
	not lib.active({"until": "2027-01-01T00:00:00Z"}) with time.now_ns as now
	not lib.active({"owner": "", "until": "2027-01-01T00:00:00Z"}) with time.now_ns as now
	not lib.active({"owner": "kim@acme.example"}) with time.now_ns as now
	not lib.active({"owner": "kim@acme.example", "until": "later"}) with time.now_ns as now
	not lib.active({"owner": "kim@acme.example", "until": "2027-01-01T00:00:00+01:00"}) with time.now_ns as now
	not lib.active({"owner": "kim@acme.example", "until": "2027-01-01"}) with time.now_ns as now
}

test_exceptions_for if {
	list := [
		{"owner": "kim@acme.example", "until": "2026-12-01T00:00:00Z", "repository": "acme/a", "hosts": ["x.example"]},
		{"owner": "kim@acme.example", "until": "2026-11-01T00:00:00Z", "repository": "acme/a", "hosts": ["y.example"]},
		{"owner": "kim@acme.example", "until": "2026-12-01T00:00:00Z", "repository": "acme/b", "hosts": ["x.example"]},
	]
	count(lib.exceptions_for(list, "acme/a", {"host": "x.example", "port": 443})) == 1 with time.now_ns as now
	count(lib.exceptions_for(list, "acme/a", {"host": "y.example", "port": 443})) == 0 with time.now_ns as now
	count(lib.exceptions_for(list, "acme/c", {"host": "x.example", "port": 443})) == 0 with time.now_ns as now
}

test_target_address_has_no_wildcards if {
	not lib.target_in({"host": "192.0.2.1", "port": 8443}, {"*.0.2.1:8443"})
	not lib.host_in("192.0.2.1", ["*.0.2.1"])
	not lib.host_in("192.0.2.1", {"*.0.2.1": {}})
}

test_list_positions_are_no_hosts if not lib.host_in("0", ["a.example"])

# A Saturday, at 08:40.
test_within if {
	lib.within([{"from": "08:00", "to": "09:00"}]) with time.now_ns as now
	lib.within([{"days": ["sat", "sun"], "from": "00:00", "to": "24:00"}]) with time.now_ns as now
	lib.within([{"from": "01:00", "to": "02:00"}, {"from": "08:40", "to": "08:41"}]) with time.now_ns as now
	not lib.within([{"days": ["mon", "tue"], "from": "00:00", "to": "24:00"}]) with time.now_ns as now
	not lib.within([{"from": "08:00", "to": "08:40"}]) with time.now_ns as now
	not lib.within([{"from": "08:41", "to": "09:00"}]) with time.now_ns as now
	not lib.within([]) with time.now_ns as now
}

test_within_in_other_spellings if {
	lib.within([{"from": "8:00", "to": "9:00"}]) with time.now_ns as now
	lib.within([{"days": ["Sat"], "from": "08:00", "to": "09:00"}]) with time.now_ns as now
	lib.within([{"days": ["saturday"], "from": "08:00", "to": "09:00"}]) with time.now_ns as now
}

# Across midnight: for example from Friday 18:00 to Saturday 09:00.
test_within_over_midnight if {
	lib.within([{"from": "18:00", "to": "09:00"}]) with time.now_ns as now
	lib.within([{"days": ["fri"], "from": "18:00", "to": "09:00"}]) with time.now_ns as now
	not lib.within([{"days": ["sat"], "from": "18:00", "to": "09:00"}]) with time.now_ns as now
	not lib.within([{"days": ["fri"], "from": "18:00", "to": "08:40"}]) with time.now_ns as now
	evening := time.parse_rfc3339_ns("2026-11-20T18:00:00Z")
	lib.within([{"days": ["fri"], "from": "18:00", "to": "09:00"}]) with time.now_ns as evening
	not lib.within([{"days": ["thu"], "from": "18:00", "to": "09:00"}]) with time.now_ns as evening
	not lib.within([{"days": ["fri"], "from": "18:01", "to": "09:00"}]) with time.now_ns as evening
}

test_within_is_strict if {
	not lib.within([{"from": "8", "to": "9"}]) with time.now_ns as now
	not lib.within([{"from": "08:40", "to": "08:40"}]) with time.now_ns as now
	not lib.within([{"days": ["s"], "from": "00:00", "to": "24:00"}]) with time.now_ns as now
	not lib.within([{"from": "08:00"}]) with time.now_ns as now
	not lib.within([{"from": 8, "to": 9}]) with time.now_ns as now
	not lib.within([{"days": "sat", "from": "00:00", "to": "24:00"}]) with time.now_ns as now
	not lib.within([{"days": [], "from": "00:00", "to": "24:00"}]) with time.now_ns as now
}

test_before_and_since if {
	lib.before("2026-11-21T08:40:01Z") with time.now_ns as now
	not lib.before("2026-11-21T08:40:00Z") with time.now_ns as now
	lib.since("2026-11-21T08:40:00Z") with time.now_ns as now
	not lib.since("2026-11-21T08:40:01Z") with time.now_ns as now
	not lib.before("later") with time.now_ns as now
	not lib.since("2020-01-01") with time.now_ns as now
}
