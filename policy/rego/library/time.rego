package sallyport.lib

# within(windows) is true if the decision's time is in one of the windows, in UTC. A window
# is an object. "days" are any of "mon", "tue", "wed", "thu", "fri", "sat", "sun" or their
# full names, in any case (absent: every day). "from" and "to" are times of the day such as
# "08:30"; "to" is exclusive, and "24:00" is the end of the day. A window whose end is
# before its start extends across midnight, and its days are those on which it starts. A
# malformed window contains no time.
within(windows) if {
	some window in windows
	in_window(window)
}

in_window(window) if {
	from := clock(window.from)
	to := clock(window.to)
	from < to
	now := substring(time.format(time.now_ns()), 11, 5)
	from <= now
	now < to
	on_day(window, time.weekday(time.now_ns()))
}

# Across midnight: the part before midnight, and the part after it, which belongs to the
# previous day.
in_window(window) if {
	from := clock(window.from)
	clock(window.to) < from
	from <= substring(time.format(time.now_ns()), 11, 5)
	on_day(window, time.weekday(time.now_ns()))
}

in_window(window) if {
	to := clock(window.to)
	to < clock(window.from)
	substring(time.format(time.now_ns()), 11, 5) < to
	on_day(window, time.weekday(time.now_ns() - (((24 * 60) * 60) * 1000000000)))
}

on_day(window, _) if not window.days

on_day(window, day) if {
	some name in window.days
	is_string(name)
	lower(name) in {lower(day), lower(substring(day, 0, 3))}
}

clock(s) := s if {
	is_string(s)
	regex.match(`^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$`, s)
}

clock(s) := concat("", ["0", s]) if {
	is_string(s)
	regex.match(`^[0-9]:[0-5][0-9]$`, s)
}

# before(until) and since(from) compare the decision's time with a time such as
# "2026-12-31T00:00:00Z", in UTC. For a malformed time, neither is true.
before(until) if {
	utc(until)
	substring(time.format(time.now_ns()), 0, 19) < substring(until, 0, 19)
}

since(from) if {
	utc(from)
	substring(time.format(time.now_ns()), 0, 19) >= substring(from, 0, 19)
}
