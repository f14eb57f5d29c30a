package sallyport.lib

# within says whether the decision's time is in one of the windows, in UTC. A
# window is an object: "days" are any of "mon", "tue", "wed", "thu", "fri", "sat",
# "sun" (absent: every day), "from" and "to" are times of the day such as "08:30".
# to is not in the window; "24:00" is the day's end. A window that would go over
# midnight is two. One that is written in another way holds nobody.
within(windows) if {
	some window in windows
	in_window(window)
}

in_window(window) if {
	clock(window.from)
	clock(window.to)
	now := substring(time.format(time.now_ns()), 11, 5)
	window.from <= now
	now < window.to
	on_day(window)
}

on_day(window) if not window.days

on_day(window) if lower(substring(time.weekday(time.now_ns()), 0, 3)) in window.days

clock(s) if {
	is_string(s)
	regex.match(`^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$`, s)
}

# before and since compare the decision's time with one such as
# "2026-12-31T00:00:00Z", in UTC. Written in another way neither holds.
before(until) if {
	utc(until)
	substring(time.format(time.now_ns()), 0, 19) < substring(until, 0, 19)
}

since(from) if {
	utc(from)
	substring(time.format(time.now_ns()), 0, 19) >= substring(from, 0, 19)
}
