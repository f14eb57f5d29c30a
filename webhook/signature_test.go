package webhook

import (
	"fmt"
	"strings"
	"testing"
)

// Atlassian's published example: support.atlassian.com/bitbucket-cloud/docs/manage-webhooks.
const (
	publishedSecret    = "It's a Secret to Everybody"
	publishedBody      = "Hello World!"
	publishedSignature = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"
)

func TestPublishedSignature(t *testing.T) {
	t.Parallel()
	s, err := ParseSignature(publishedSignature)
	if err != nil {
		t.Fatal(err)
	}
	if !secretOf(t, publishedSecret).Verify([]byte(publishedBody), s) {
		t.Error("the published signature does not hold")
	}
	if got := secretOf(t, publishedSecret).Sign([]byte(publishedBody)).String(); got != publishedSignature {
		t.Errorf("signed %s", got)
	}
}

func TestSignaturesThatAreNone(t *testing.T) {
	t.Parallel()
	digits := strings.TrimPrefix(publishedSignature, "sha256=")
	for _, value := range []string{
		"", "sha256", "sha256=", "sha256=" + digits[1:], "sha256=" + digits + "0", "sha256=" + digits[:63] + "g", digits,
		"sha1=" + digits[:40], "sha512=" + digits + digits, "SHA256=" + digits, " sha256=" + digits, "sha256= " + digits[1:], "sha256=" + digits + " ",
		"sha256:" + digits, "sha256==" + digits[1:], "totally-invalid-signature", publishedSecret, "sha256=" + publishedSecret, publishedSignature + "," + publishedSignature,
		"sha256=\x00" + digits[1:],
	} {
		if s, err := ParseSignature(value); err == nil {
			t.Errorf("%q is read as %s", value, s)
		}
	}
	upper := "sha256=" + strings.ToUpper(digits)
	if s, err := ParseSignature(upper); err != nil || s.String() != publishedSignature {
		t.Errorf("%s: %v", upper, err)
	}
}

func TestSecretsThatVerifyNothing(t *testing.T) {
	t.Parallel()
	s, _ := ParseSignature(publishedSignature)
	if (Secret{}).Verify([]byte(publishedBody), (Secret{}).Sign([]byte(publishedBody))) {
		t.Error("the zero value verifies its own signature")
	}
	if secretOf(t, "another").Verify([]byte(publishedBody), s) || secretOf(t, publishedSecret).Verify([]byte(publishedBody+" "), s) {
		t.Error("another secret or body is accepted")
	}
	for _, key := range []string{"", strings.Repeat("x", MaxSecret+1)} {
		if _, err := NewSecret(key); err == nil {
			t.Errorf("a secret of %d bytes is accepted", len(key))
		}
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	t.Parallel()
	s := secretOf(t, publishedSecret)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x", s, s, s, s, s, s), fmt.Sprintf("%v", struct{ S Secret }{s}), asJSON(t, s)} {
		if strings.Contains(text, "Everybody") || strings.Contains(text, fmt.Sprintf("%x", publishedSecret)) {
			t.Errorf("shown: %s", text)
		}
	}
}

func FuzzSignature(f *testing.F) {
	f.Add(publishedSignature)
	f.Add("sha256=")
	f.Add("sha1=da39a3ee5e6b4b0d3255bfef95601890afd80709")
	f.Fuzz(func(t *testing.T, value string) {
		s, err := ParseSignature(value)
		if err == nil && !strings.EqualFold(s.String(), value) {
			t.Errorf("%q is read as %s", value, s)
		}
		if err == nil && secretOf(t, "secret").Verify([]byte(value), s) {
			t.Errorf("%q verifies", value)
		}
	})
}
