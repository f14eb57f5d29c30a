package config

import (
	"regexp"
	"strconv"
)

var countForm = regexp.MustCompile(`^(0|[1-9][0-9]{0,8})$`)

// count is a plain number of things, at most nine digits.
var count = kind[int]{
	name: "number", want: "a number such as 500",
	parse: func(_ *decoder, text string) (int, *problem) {
		if !countForm.MatchString(text) {
			return 0, wanted("a number such as 500", text, "it is written in digits, without a sign, a point or a unit")
		}
		n, _ := strconv.Atoi(text) // nine digits always fit
		return n, nil
	},
}
