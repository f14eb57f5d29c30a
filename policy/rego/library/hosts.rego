# Functions for policies: matching of hosts, ports and targets, and exceptions with an end.
#
# The result of each function depends only on its arguments and on the decision's time:
# policies that call it can be tested and replayed.
package sallyport.lib

# host_in(host, patterns) is true if a host matches one of the patterns. A pattern is a host
# name, or "*." and a host name: one or more labels before that name, and never the name
# itself. The patterns are a set, a list, or the keys of an object (the fastest form for
# long lists under data/). A bare * is not a pattern and matches nothing.
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

# wildcards(host) is the set of patterns with "*." that a name matches: for a.b.example
# these are *.b.example and *.example. The parts of an address are not labels. Callers
# check is_address last because it is slow and rarely needed.
wildcards(host) := {wildcard |
	some dot in indexof_n(host, ".")
	wildcard := concat("", ["*", substring(host, dot, -1)])
}

# is_address(host) is true if a host is an IP literal. In canonical form only an IPv6
# address has a colon, and only an IPv4 address ends in a label of digits.
is_address(host) if contains(host, ":")

is_address(host) if regex.match(`(^|\.)[0-9]+$`, host)

# port_in(port, ports) is true if a port is in a set or list of numbers and ranges. A range
# is a string such as "8000-8099", with or without spaces.
port_in(port, ports) if port in ports

port_in(port, ports) if {
	some range in ports
	is_string(range)
	regex.match(`^ *[0-9]{1,5} *(- *[0-9]{1,5} *)?$`, range)
	bounds := split(range, "-")
	to_number(trim_space(bounds[0])) <= port
	port <= to_number(trim_space(bounds[count(bounds) - 1]))
}

# target_in(target, entries) is true if a target, such as input.target, matches an entry of
# a set or list. An entry is a host pattern (port 443), or a host pattern, a colon and a
# port.
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
