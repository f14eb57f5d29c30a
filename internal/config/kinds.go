package config

import (
	"log/slog"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport/sallyport/internal/uuid"
)

// kind is a type of value: what the reference calls it, what an error asks for, and how it is parsed. A parser gets
// the text as in the file, one line of visible characters.
type kind[T any] struct {
	name  string
	want  string
	bare  bool // a quoted text is not one
	parse func(d *decoder, text string) (T, *problem)
}

// wanted is the problem of a text that is not of the kind at all.
func wanted(want, text, hint string) *problem {
	return problemf(hint, "want %s, found %s", want, quote(text))
}

var boolean = kind[bool]{
	name: "boolean", want: "true or false", bare: true,
	parse: func(_ *decoder, text string) (bool, *problem) {
		switch text {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return false, wanted("true or false", text, "")
	},
}

var duration = kind[time.Duration]{
	name: "duration", want: "a duration such as 10m",
	parse: func(_ *decoder, text string) (time.Duration, *problem) {
		value, err := time.ParseDuration(text)
		switch {
		case err != nil && onlyDigits(text):
			return 0, wanted("a duration such as 10m", text, "add the unit: "+shorten(text)+"s is seconds")
		case err != nil:
			return 0, wanted("a duration such as 10m", text, "the units are ms, s, m and h, as in 1h30m")
		}
		return value, nil
	},
}

var sizeForm = regexp.MustCompile(`^([0-9]{1,15})(KiB|MiB|GiB)?$`)

var size = kind[int]{
	name: "size", want: "a size such as 64KiB",
	parse: func(_ *decoder, text string) (int, *problem) {
		m := sizeForm.FindStringSubmatch(text)
		if m == nil {
			return 0, wanted("a size such as 64KiB", text, "the units are KiB, MiB and GiB; without one it is bytes")
		}
		number, _ := strconv.ParseInt(m[1], 10, 64) // fifteen digits always fit
		unit := map[string]int64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[m[2]]
		if number > math.MaxInt/unit {
			return 0, wanted("a size such as 64KiB", text, "it is too large")
		}
		return int(number * unit), nil
	},
}

// between bounds a kind. Both ends are allowed.
func between[T time.Duration | int](k kind[T], minimum, maximum T) kind[T] {
	inner := k.parse
	k.parse = func(d *decoder, text string) (T, *problem) {
		value, p := inner(d, text)
		if p != nil {
			return 0, p
		}
		if value < minimum || value > maximum {
			return 0, problemf("", "want between %s and %s, found %s", amount(minimum), amount(maximum), quote(text))
		}
		return value, nil
	}
	return k
}

// amount writes a bound as one would write it in the file.
func amount[T time.Duration | int](value T) string {
	if d, ok := any(value).(time.Duration); ok {
		text := d.String() // 1h0m0s
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		return text
	}
	switch n := int64(value); {
	case n >= 1<<20 && n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + "MiB"
	case n >= 1<<10 && n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + "KiB"
	default:
		return strconv.FormatInt(n, 10)
	}
}

// choice is one of a few values.
func choice(values ...string) kind[string] {
	want := strings.Join(values, " or ")
	return kind[string]{
		name: strings.Join(values, " \\| "), want: want,
		parse: func(_ *decoder, text string) (string, *problem) {
			if !slices.Contains(values, text) {
				return "", wanted(want, text, "")
			}
			return text, nil
		},
	}
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

var logLevel = kind[slog.Level]{
	name: "debug \\| info \\| warn \\| error", want: "debug, info, warn or error",
	parse: func(_ *decoder, text string) (slog.Level, *problem) {
		level, ok := levels[text]
		if !ok {
			return 0, wanted("debug, info, warn or error", text, "")
		}
		return level, nil
	},
}

// bitbucketUUID accepts braces and upper case, as Bitbucket writes UUIDs, and gives the bare
// lower-case form that tokens are compared with.
var bitbucketUUID = kind[string]{
	name: "UUID", want: "a UUID such as 922e118c-f34f-4226-a897-0e0afbec553d",
	parse: func(_ *decoder, text string) (string, *problem) {
		bare, ok := uuid.Parse(text)
		if !ok {
			return "", wanted("a UUID such as 922e118c-f34f-4226-a897-0e0afbec553d", text, "braces and upper case are accepted, anything else is not")
		}
		return bare, nil
	},
}

var slugForm = regexp.MustCompile(`^[a-z0-9_-]{1,62}$`)

// repositoryForm is a repository's slug: what Bitbucket makes of its name.
var repositoryForm = regexp.MustCompile(`^[a-z0-9_.-]{1,62}$`)

var repository = kind[string]{
	name: "repository", want: "a repository such as acme/egress-policy",
	parse: func(_ *decoder, text string) (string, *problem) {
		workspace, name, _ := strings.Cut(text, "/")
		if !slugForm.MatchString(workspace) || !repositoryForm.MatchString(name) || strings.Trim(name, ".") == "" {
			return "", wanted("a repository such as acme/egress-policy", text, "the workspace's slug, a slash, and the repository's slug, as in its URL")
		}
		return text, nil
	},
}

var slug = kind[string]{
	name: "slug", want: "a workspace's slug such as acme",
	parse: func(_ *decoder, text string) (string, *problem) {
		if !slugForm.MatchString(text) {
			return "", wanted("a workspace's slug such as acme", text,
				"it is the part after bitbucket.org/ in the workspace's address: lower-case letters, digits, - and _")
		}
		return text, nil
	},
}

// audience is bounded as Bitbucket bounds it (Atlassian's announcement of multiple audiences: 150 characters each).
var audience = kind[string]{
	name: "text", want: "an audience such as https://egress.acme.example",
	parse: func(d *decoder, text string) (string, *problem) {
		if n := utf8.RuneCountInString(text); n > 150 {
			return "", problemf("Bitbucket allows at most 150 characters", "the audience has %d characters", n)
		}
		if strings.TrimSpace(text) != text {
			return "", problemf("remove it", "the audience begins or ends with a space")
		}
		if strings.HasPrefix(text, "ari:cloud:bitbucket:") {
			d.warn(d.current, "choose one of your own, such as https://egress.acme.example, and ask for it in the step's oidc.audiences",
				"this is Bitbucket's default audience: a token made for any other service is accepted here too, and the other way round")
		}
		return text, nil
	},
}

var branchForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$`)

// branch keeps to names that git cannot take for an option or a range.
var branch = kind[string]{
	name: "branch", want: "a branch such as main",
	parse: func(_ *decoder, text string) (string, *problem) {
		if !branchForm.MatchString(text) || strings.Contains(text, "..") || strings.HasSuffix(text, "/") {
			return "", wanted("a branch such as main", text, "letters, digits and _ . / - are accepted")
		}
		return text, nil
	},
}

var gitUserForm = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,100}$`)

// gitUser is a user name for basic authentication.
var gitUser = kind[string]{
	name: "text", want: "a user name such as x-token-auth",
	parse: func(_ *decoder, text string) (string, *problem) {
		if !gitUserForm.MatchString(text) {
			return "", wanted("a user name such as x-token-auth", text, "letters, digits and _ . @ - are accepted")
		}
		return text, nil
	},
}

func onlyDigits(text string) bool {
	return strings.Trim(text, "0123456789") == ""
}

func shorten(text string) string { return text[:min(len(text), 20)] }
