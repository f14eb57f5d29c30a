package main

import (
	"fmt"
	"slices"
	"strings"

	words "github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// reasonWords is the vocabulary of reasons.
var reasonWords = func() []string {
	var list []string
	for _, r := range []policy.Reason{
		policy.PolicyAllowed, policy.PolicyDenied, policy.NoRuleMatched, policy.PolicyError,
		policy.TargetInvalid, policy.RequestInvalid, policy.TLSRequired, policy.HeadTooLarge, policy.HeadTimeout, policy.BodyTimeout, policy.AddressProhibited, policy.NameUnresolved,
		policy.AuditUnavailable, policy.TargetUnreachable, policy.TargetTimeout, policy.UpstreamUnavailable, policy.UpstreamTimeout, policy.ResponseInvalid,
		policy.Overloaded, policy.ByteLimit, policy.StepLimit, policy.RepositoryLimit, policy.InstanceLimit, policy.ShuttingDown, policy.EmergencyStop, policy.InternalError,
		policy.CredentialMissing, policy.CredentialAmbiguous, policy.CredentialMalformed, policy.CredentialTooLarge, policy.CredentialAlgorithm,
		policy.CredentialKeyUnknown, policy.CredentialSignature, policy.CredentialIssuer, policy.CredentialAudience, policy.CredentialExpired,
		policy.CredentialNotYetValid, policy.CredentialLifetime, policy.CredentialWorkspace, policy.CredentialSubject, policy.CredentialClaims,
		policy.CredentialRevoked, policy.KeysUnavailable, policy.NamesUnavailable, policy.AdmittedUnavailable,
	} {
		list = append(list, string(r))
	}
	return list
}()

func kindWords() []string {
	list := make([]string, len(words.Kinds))
	for i, k := range words.Kinds {
		list[i] = string(k)
	}
	return list
}

// oneOf refuses a word that is not in a vocabulary, and names the one that was
// probably meant, or all where there are few.
func oneOf(flag, given string, known []string) error {
	if slices.Contains(known, given) {
		return nil
	}
	if near := nearestWord(given, known); near != "" {
		return fmt.Errorf("%s %q is not known: did you mean %s?", flag, given, near)
	}
	if len(known) <= 20 {
		return fmt.Errorf("%s %q is not known: want one of %s", flag, given, listed(known))
	}
	return fmt.Errorf("%s %q is not known", flag, given)
}

// nearestWord is the word that is most like this one; empty where none is alike.
func nearestWord(given string, known []string) string {
	if len(given) > 60 {
		return ""
	}
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	given = plain(given)
	best, least := "", len(given)/3+2
	for _, word := range known {
		far := editDistance(given, plain(word))
		if len(given) >= 4 && (strings.HasPrefix(plain(word), given) || strings.HasSuffix(plain(word), given)) {
			far = min(far, 1)
		}
		if far < least && far < len(word)/2+1 {
			best, least = word, far
		}
	}
	return best
}

// editDistance is how many bytes have to be put in, taken out or replaced to make
// b of a (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(row[j]+1, row[j+1]+1, change)
		}
	}
	return row[len(b)]
}
