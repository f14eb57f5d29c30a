package audit

import (
	"strings"
	"time"
)

// SecretAge is when a secret was last changed, as an event of the kind secret_ages reports
// it. It never contains the secret.
type SecretAge struct {
	// Name is the configuration's key; for the credential of a webhook agent, its endpoint
	// and id.
	Name    string
	Kind    string    // one word, such as api_token
	Since   time.Time // of the last change, in whole seconds; zero: unknown
	Expires time.Time // of a certificate; zero: the secret does not expire
}

// secretsAttribute is the attribute with the list. Each line has kind, since, expires and
// name, separated by spaces; a hyphen stands for a zero time.
const secretsAttribute = "secrets"

// maxSecretAttributes bounds the attributes of one event: about 1,000 secrets.
const maxSecretAttributes = 60

// AppendSecretAges appends the attributes that have a list of ages.
func AppendSecretAges(to []Attribute, ages []SecretAge) []Attribute {
	lines := make([]string, len(ages))
	for i, a := range ages {
		lines[i] = strings.Join([]string{a.Kind, timeOrHyphen(a.Since), timeOrHyphen(a.Expires), a.Name}, " ")
	}
	return AppendLines(to, secretsAttribute, OneLine(lines), maxSecretAttributes)
}

// SecretAges reads what [AppendSecretAges] has written. A line in another form becomes an
// entry of unknown age with the whole line as its name: a forged event hides nothing.
func SecretAges(attributes map[string]string) []SecretAge {
	var ages []SecretAge
	for _, line := range Lines(attributes, secretsAttribute) {
		parts := strings.SplitN(line, " ", 4)
		if len(parts) < 4 {
			ages = append(ages, SecretAge{Name: line})
			continue
		}
		since, sinceOK := readTimeOrHyphen(parts[1])
		expires, expiresOK := readTimeOrHyphen(parts[2])
		if !sinceOK || !expiresOK {
			ages = append(ages, SecretAge{Name: line})
			continue
		}
		ages = append(ages, SecretAge{Kind: parts[0], Since: since, Expires: expires, Name: parts[3]})
	}
	return ages
}

func timeOrHyphen(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func readTimeOrHyphen(text string) (time.Time, bool) {
	if text == "-" {
		return time.Time{}, true
	}
	t, err := time.Parse(time.RFC3339, text)
	return t.UTC(), err == nil && !t.IsZero()
}
