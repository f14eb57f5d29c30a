# Helpers for policies: who is matched by name, and exceptions that end.
#
# Everything here is a plain function of its arguments and of the decision's
# time, so that it can be tested and evaluated again.
package sallyport.lib

# host_in says whether a host is one of the patterns. A pattern is a host name,
# or *. and a host name: one or more labels before it, and never the name itself.
# Patterns are a set, a list, or an object whose keys they are (the fastest for
# long lists under data/). A bare * is no pattern and matches nothing.
host_in(host, patterns) if _ := patterns[host]

host_in(host, patterns) if {
	some dot in indexof_n(host, ".")
	_ := patterns[concat("", ["*", substring(host, dot, -1)])]
	not is_address(host)
}

host_in(host, patterns) if {
	is_array(patterns)
	host in patterns
}

host_in(host, patterns) if {
	is_array(patterns)
	some dot in indexof_n(host, ".")
	concat("", ["*", substring(host, dot, -1)]) in patterns
	not is_address(host)
}

# wildcards are the patterns with *. that a name matches: for a.b.example they are
# *.b.example and *.example. The parts of an address are no labels: what uses
# wildcards looks at is_address last, for it is the dearer and seldom needed.
wildcards(host) := {wildcard |
	some dot in indexof_n(host, ".")
	wildcard := concat("", ["*", substring(host, dot, -1)])
}

# is_address says whether a host is an IP literal. In canonical form only an IPv6
# address has a colon, and only an IPv4 address ends in a digit-only label.
is_address(host) if contains(host, ":")

is_address(host) if regex.match(`(^|\.)[0-9]+$`, host)

# port_in says whether a port is one of the given: numbers, or ranges as strings
# such as "8000-8099", with or without spaces.
port_in(port, ports) if port in ports

port_in(port, ports) if {
	some range in ports
	is_string(range)
	regex.match(`^ *[0-9]{1,5} *(- *[0-9]{1,5} *)?$`, range)
	bounds := split(range, "-")
	to_number(trim_space(bounds[0])) <= port
	port <= to_number(trim_space(bounds[count(bounds) - 1]))
}

# target_in says whether a target, such as input.target, is one of the entries, a
# set or a list. An entry is a host pattern, which means port 443, or a pattern, a
# colon and a port.
target_in(target, entries) if {
	target.port == 443
	host_in(target.host, entries)
}

target_in(target, entries) if target_name(target.host, target.port) in entries

target_in(target, entries) if {
	some wildcard in wildcards(target.host)
	target_name(wildcard, target.port) in entries
	not is_address(target.host)
}

target_name(host, port) := sprintf("%s:%d", [host, port]) if not contains(host, ":")

target_name(host, port) := sprintf("[%s]:%d", [host, port]) if contains(host, ":")
