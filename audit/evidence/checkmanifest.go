package evidence

import (
	"bufio"
	"slices"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

func (c *checker) manifest(text []byte) error {
	keys := c.options.Trust.Keys
	if len(keys) == 0 {
		keys = pack.ClaimedKey(text)
	}
	m, by, err := pack.OpenManifest(text, keys, c.options.Unsigned)
	if err != nil {
		// A key that a given one handed over to is looked for in the pack.
		bound := c.bound(pack.ClaimedKey(text))
		if len(c.options.Trust.Keys) == 0 || len(bound) == 0 {
			return wrong("%s: %v", pack.ManifestName, err)
		}
		if m, by, err = pack.OpenManifest(text, bound, c.options.Unsigned); err != nil {
			return wrong("%s: %v", pack.ManifestName, err)
		}
	}
	c.m, c.result.Manifest, c.result.SignedBy = m, m, by
	c.result.Vouched = by != "" && len(c.options.Trust.Keys) > 0
	if by != "" && string(by) != m.Signature {
		return wrong("%s: it names the signer %s, and the signature is of %s", pack.ManifestName, m.Signature, by)
	}
	return nil
}

// bound are those of some keys that a trusted one handed over to, in events of the
// pack that both signed.
func (c *checker) bound(keys []audit.Key) []audit.Key {
	file, err := openRegular(c.root, pack.EventsFile)
	if err != nil {
		return nil
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 1<<16), pack.MaxLine)
	var named []audit.Registration
	for lines.Scan() {
		if p, err := pack.ReadPair(lines.Bytes()); err == nil {
			if _, kind := recorded.Peek(p.Record); kind == string(audit.KindSigningKey) {
				if r, ok := audit.RegistrationOf(p.Record); ok {
					named = append(named, r)
				}
			}
		}
	}
	trusted := forwards(c.options.Trust.Keys, named)
	return slices.DeleteFunc(slices.Clone(keys), func(k audit.Key) bool { return !slices.Contains(trusted, k) })
}

// forwards returns some keys and those that they handed over to, one after the
// other. Trust passes in this direction only: a public key can be named by anybody,
// and the key that named it is not trusted for that.
func forwards(keys []audit.Key, named []audit.Registration) []audit.Key {
	keys = slices.Clone(keys)
	from := make(map[audit.Key][]audit.Registration)
	for _, r := range named {
		if r.Previous != "" {
			from[r.Previous] = append(from[r.Previous], r)
		}
	}
	known := make(map[audit.Key]bool)
	for _, k := range keys {
		known[k] = true
	}
	for i := 0; i < len(keys); i++ {
		for _, r := range from[keys[i]] {
			if !known[r.Key] && r.HandedOver(keys[i]) {
				known[r.Key] = true
				keys = append(keys, r.Key)
			}
		}
	}
	return keys
}
