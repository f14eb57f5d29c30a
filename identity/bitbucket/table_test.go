package bitbucket

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	id "github.com/sallyport/sallyport/identity"
	bb "github.com/sallyport/sallyport/internal/bitbuckettest"
)

const (
	otherUUID = "{11111111-2222-3333-4444-555555555555}"
	bitbucket = "Bitbucket Pipelines OIDC"
)

// rows is the table of odd and hostile tokens.
var rows = []row{
	// What is odd and right.
	{"as issued", bitbucket, 0, "", with()},
	{"one audience as a list", "RFC 7519 4.1.3", 0, "", with("aud", []string{audience})},
	{"ten audiences, ours last", bitbucket + ": at most 10", 0, "", with("aud", append(many("https://x.example/", 9), audience))},
	{"second configured audience", bitbucket, 0, "", with("aud", "second")},
	{"no branch", bitbucket + ": a tag has none", 0, "", with("branchName", nil)},
	{"empty branch", bitbucket, 0, "", with("branchName", "")},
	{"branch null", bitbucket, 0, "", with("branchName", literal("null"))},
	{"branch not ASCII", "git allows it", 0, "", with("branchName", "größe/日本")},
	{"deployment name claimed as well", bitbucket + ": Atlassian's sample", 0, "", with("deploymentEnvironment", "testing")},
	{"unknown claims", "RFC 7519 4", 0, "", with("compliant", true, "accountUuid", otherUUID, "x", map[string]any{"y": 1})},
	{"UUIDs bare", "normalised at the door", 0, "", func(f *forge) string {
		return f.acme.Key().Sign(nil, unbraced(f.claims()))
	}},
	{"UUIDs in upper case", "RFC 9562 4", 0, "", func(f *forge) string {
		c := f.claims()
		for _, n := range []string{"workspaceUuid", "repositoryUuid", "stepUuid", "pipelineUuid", "deploymentEnvironmentUuid", "sub"} {
			c[n] = strings.ToUpper(c[n].(string))
		}
		return f.sign(c)
	}},
	{"expired within the leeway", "RFC 7519 4.1.4", 0, "", with("iat", at(-time.Hour), "exp", at(-29*time.Second))},
	{"issued ahead within the leeway", "RFC 7519 4.1.6", 0, "", with("iat", at(29*time.Second))},
	{"nbf within the leeway", "RFC 7519 4.1.5", 0, "", with("nbf", at(29*time.Second))},
	{"longest lifetime", bitbucket + ": a step runs 12 h at most", 0, "", with("iat", at(0), "exp", at(12*time.Hour))},
	{"time with a fraction", "RFC 7519 2 NumericDate", 0, "", with("exp", func(f *forge) any { return literal(strconv.FormatInt(f.now.Unix()+60, 10) + ".75") })},
	{"no typ", "RFC 7515 4.1.9", 0, "", header("typ", nil)},
	{"typ in lower case", "RFC 7519 5.1", 0, "", header("typ", "jwt")},
	{"thumbprint in the header", "RFC 7515 4.1.7", 0, "", header("x5t", "abc")},
	{"white space in the JSON", "RFC 8259 2", 0, "", payload(func(_ *forge, s string) string { return " \n\t" + s + "\r\n" })},
	{"escaped claim name", "RFC 8259 7", 0, "", payload(func(_ *forge, s string) string { return strings.Replace(s, `"iss"`, `"\u0069ss"`, 1) })},
	{"step that deploys nothing", bitbucket, 0, "", func(f *forge) string { return f.token(f.plain) }},
	{"deployment null", bitbucket, 0, "", func(f *forge) string {
		c := f.plain.Claims(bb.TokenOptions{Audiences: []string{audience}})
		c["deploymentEnvironmentUuid"] = nil
		return f.sign(c)
	}},

	// The compact form.
	{"too large", "bounded input", checkSize, id.CredentialTooLarge, with("x", strings.Repeat("a", 8<<10))},
	{"a word", "RFC 7515 7.1", checkForm, id.CredentialMalformed, fixed("hello")},
	{"two parts", "RFC 7515 7.1", checkForm, id.CredentialMalformed, bent(func(h, p, _ string) string { return h + "." + p })},
	{"four parts", "RFC 7515 7.1", checkForm, id.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + s + "." + s })},
	{"encrypted", "RFC 7516 7.1", checkForm, id.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + s + ".e.t" })},
	{"empty signature", "RFC 7519 6", checkForm, id.CredentialMalformed, bent(func(h, p, _ string) string { return h + "." + p + "." })},
	{"empty payload", "RFC 7797 5", checkForm, id.CredentialMalformed, bent(func(h, _, s string) string { return h + ".." + s })},
	{"flattened JSON", "RFC 7519 1: compact only", checkForm, id.CredentialMalformed, jsonForm(false)},
	{"general JSON", "RFC 7519 1: compact only", checkForm, id.CredentialMalformed, jsonForm(true)},
	{"only dots", "RFC 7515 7.1", checkForm, id.CredentialMalformed, fixed("..")},
	{"padded", "RFC 7515 2", checkBase64, id.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + s + "==" })},
	{"stray bits in the signature", "RFC 4648 3.5", checkBase64, id.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + strayBits(s) })},
	{"line end in the signature", "RFC 7515 2", checkBase64, id.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + s[:9] + "\n" + s[9:] })},
	{"line end behind it", "RFC 7515 2", checkBase64, id.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + s + "\r\n" })},
	{"space in the header", "RFC 7515 2", checkBase64, id.CredentialMalformed, bent(func(h, p, s string) string { return h[:4] + " " + h[4:] + "." + p + "." + s })},
	{"standard alphabet", "RFC 7515 2", checkBase64, id.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + s[:4] + "+/" + s[6:] })},
	{"NUL in the payload part", "RFC 7515 2", checkBase64, id.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p[:8] + "\x00" + p[8:] + "." + s })},

	// JSON.
	{"header is a list", "RFC 7515 4", checkJSON, id.CredentialMalformed, rawHeader(`[1]`)},
	{"header is not JSON", "RFC 7515 4", checkJSON, id.CredentialMalformed, rawHeader(`{"alg":"RS256"`)},
	{"header not UTF-8", "RFC 7515 2", checkJSON, id.CredentialMalformed, rawHeader("{\"alg\":\"RS256\",\"kid\":\"\xff\"}")},
	{"header with a trailing comma", "RFC 8259 4", checkJSON, id.CredentialMalformed, rawHeader(`{"alg":"RS256","kid":"KID",}`)},
	{"payload is a string", "RFC 7519 4", checkJSON, id.CredentialClaims, payload(func(*forge, string) string { return `"x"` })},
	{"payload null", "RFC 7519 4", checkJSON, id.CredentialClaims, payload(func(*forge, string) string { return `null` })},
	{"two objects", "RFC 8259 2", checkJSON, id.CredentialClaims, payload(func(_ *forge, s string) string { return s + s })},
	{"byte order mark", "RFC 8259 8.1", checkJSON, id.CredentialClaims, payload(func(_ *forge, s string) string { return "\ufeff" + s })},
	{"payload not UTF-8", "RFC 7519 7.2", checkJSON, id.CredentialClaims, appended("\"x\":\"\xc3\x28\"")},
	{"comment", "RFC 8259 2", checkJSON, id.CredentialClaims, payload(func(_ *forge, s string) string { return s[:1] + "/**/" + s[1:] })},
	{"NaN", "RFC 8259 6", checkJSON, id.CredentialClaims, appended(`"x":NaN`)},
	{"nested deeply", "bounded depth", checkJSON, id.CredentialClaims, appended(`"x":` + strings.Repeat("[", 50) + strings.Repeat("]", 50))},
	{"iss twice", "RFC 7519 4", checkDuplicates, id.CredentialClaims, prepend(`"iss":"https://evil.example"`)},
	{"repositoryUuid twice", "RFC 7519 4", checkDuplicates, id.CredentialClaims, prepend(`"repositoryUuid":"` + otherUUID + `"`)},
	{"aud twice", "RFC 7519 4", checkDuplicates, id.CredentialClaims, prepend(`"aud":"x"`)},
	{"exp twice", "RFC 7519 4", checkDuplicates, id.CredentialClaims, prepend(`"exp":1`)},
	{"iss twice, one escaped", "RFC 7519 4, RFC 8259 7", checkDuplicates, id.CredentialClaims, prepend(`"\u0069ss":"https://evil.example"`)},
	{"twice inside", "RFC 7519 4", checkDuplicates, id.CredentialClaims, appended(`"x":{"a":1,"a":2}`)},
	{"alg twice", "RFC 7515 4", checkDuplicates, id.CredentialMalformed, rawHeader(`{"alg":"none","alg":"RS256","kid":"KID"}`)},
	{"kid twice", "RFC 7515 4", checkDuplicates, id.CredentialMalformed, rawHeader(`{"kid":"x","alg":"RS256","kid":"KID"}`)},
	{"Exp beside exp", "RFC 7519 4: names are case-sensitive", checkCase, id.CredentialClaims, prepend(`"Exp":4102444800`)},
	{"RepositoryUuid beside repositoryUuid", "RFC 7519 4", checkCase, id.CredentialClaims, appended(`"RepositoryUuid":"` + otherUUID + `"`)},
	{"ISS beside iss", "RFC 7519 4", checkCase, id.CredentialClaims, appended(`"ISS":"https://evil.example"`)},
	{"iss with a long s", "encoding/json folds U+017F", checkCase, id.CredentialClaims, appended(`"i\u017fs":"https://evil.example"`)},
	{"ALG beside alg", "RFC 7515 4", checkCase, id.CredentialMalformed, rawHeader(`{"alg":"RS256","ALG":"none","kid":"KID"}`)},

	// The header.
	{"alg none", "RFC 8725 3.2", checkAlgorithm, id.CredentialAlgorithm, header("alg", "none")},
	{"alg None", "RFC 8725 3.2", checkAlgorithm, id.CredentialAlgorithm, header("alg", "None")},
	{"alg in lower case", "RFC 7515 4.1.1: case-sensitive", checkAlgorithm, id.CredentialAlgorithm, header("alg", "rs256")},
	{"alg missing", "RFC 7515 4.1.1", checkAlgorithm, id.CredentialAlgorithm, header("alg", nil)},
	{"alg a number", "RFC 7515 4.1.1", checkAlgorithm, id.CredentialAlgorithm, header("alg", 256)},
	{"alg a list", "RFC 7515 4.1.1", checkAlgorithm, id.CredentialAlgorithm, header("alg", []string{"RS256"})},
	{"HS256 with the public key", "CVE-2015-9235, RFC 8725 2.1", checkAlgorithm, id.CredentialAlgorithm, func(f *forge) string {
		body, _ := json.Marshal(f.claims())
		return bb.SignHMAC("HS256", f.acme.Key().PublicPEM(), []byte(strings.Replace(f.header(), "RS256", "HS256", 1)), body)
	}},
	{"RS512", "RFC 8725 3.1", checkAlgorithm, id.CredentialAlgorithm, signedAs("RS512")},
	{"RS384", "RFC 8725 3.1", checkAlgorithm, id.CredentialAlgorithm, signedAs("RS384")},
	{"PS256", "RFC 8725 3.1", checkAlgorithm, id.CredentialAlgorithm, signedAs("PS256")},
	{"ES256 by a published key", "RFC 8725 3.1", checkAlgorithm, id.CredentialAlgorithm, func(f *forge) string { return f.es256.Sign(nil, f.claims()) }},
	{"crit", "RFC 7515 4.1.11", checkHeader, id.CredentialMalformed, header("crit", []string{"exp"}, "exp", 1)},
	{"crit empty", "RFC 7515 4.1.11", checkHeader, id.CredentialMalformed, header("crit", []string{})},
	{"b64 false", "RFC 7797 3", checkHeader, id.CredentialMalformed, header("b64", false)},
	{"jku", "RFC 8725 3.10", checkHeader, id.CredentialMalformed, header("jku", "https://evil.example/keys.json")},
	{"x5u", "RFC 8725 3.10", checkHeader, id.CredentialMalformed, header("x5u", "https://evil.example/c.pem")},
	{"jwk", "CVE-2018-0114", checkHeader, id.CredentialMalformed, func(f *forge) string {
		return f.acme.Key().Sign(map[string]any{"jwk": f.stranger.JWK()}, f.claims())
	}},
	{"x5c", "RFC 7515 4.1.6", checkHeader, id.CredentialMalformed, header("x5c", []string{})},
	{"zip", "RFC 7516 4.1.3", checkHeader, id.CredentialMalformed, header("zip", "DEF")},
	{"enc", "RFC 7516 4.1.2", checkHeader, id.CredentialMalformed, header("enc", "A128GCM")},
	{"nested token", "RFC 7519 5.2", checkHeader, id.CredentialMalformed, header("cty", "JWT")},
	{"access token", "RFC 8725 3.11, RFC 9068 2.1", checkType, id.CredentialMalformed, header("typ", "at+jwt")},
	{"logout token", "RFC 8725 3.11", checkType, id.CredentialMalformed, header("typ", "logout+jwt")},
	{"typ a number", "RFC 7515 4.1.9", checkType, id.CredentialMalformed, header("typ", 1)},
	{"typ empty", "RFC 7515 4.1.9", checkType, id.CredentialMalformed, header("typ", "")},
	{"no kid", "RFC 7515 4.1.4; Bitbucket names it", checkKeyID, id.CredentialKeyUnknown, header("kid", nil)},
	{"kid empty", "RFC 7515 4.1.4", checkKeyID, id.CredentialKeyUnknown, header("kid", "")},
	{"kid a number", "RFC 7515 4.1.4", checkKeyID, id.CredentialKeyUnknown, header("kid", 1)},
	{"kid with a line end", "RFC 8725 3.10", checkKeyID, id.CredentialKeyUnknown, header("kid", "a\nb")},
	{"kid long", "RFC 8725 3.10", checkKeyID, id.CredentialKeyUnknown, header("kid", strings.Repeat("k", 257))},
	{"kid a path", "RFC 8725 3.10", checkKey, id.CredentialKeyUnknown, header("kid", "../../../../dev/null")},
	{"kid SQL", "RFC 8725 3.10", checkKey, id.CredentialKeyUnknown, header("kid", "' OR '1'='1")},
	{"kid in another case", "RFC 7515 4.1.4: case-sensitive", checkKey, id.CredentialKeyUnknown, func(f *forge) string {
		return f.acme.Key().Sign(map[string]any{"kid": strings.ToUpper(f.acme.Key().ID)}, f.claims())
	}},
	{"kid of a key for another algorithm", "RFC 8725 3.1", checkKey, id.CredentialKeyUnknown, func(f *forge) string {
		return f.acme.Key().Sign(map[string]any{"kid": f.es256.ID}, f.claims())
	}},
	{"a stranger's key under its own id", "RFC 7515 10.1", checkKey, id.CredentialKeyUnknown, func(f *forge) string { return f.stranger.Sign(nil, f.claims()) }},

	// The signature.
	{"a stranger's key under our id", "RFC 7515 5.2", checkSignature, id.CredentialSignature, func(f *forge) string {
		return f.stranger.Sign(map[string]any{"kid": f.acme.Key().ID}, f.claims())
	}},
	{"another workspace's key", "one issuer, its own keys", checkSignature, id.CredentialSignature, func(f *forge) string {
		return f.other.Key().Sign(map[string]any{"kid": f.acme.Key().ID}, f.claims())
	}},
	{"payload exchanged", "RFC 7515 5.2", checkSignature, id.CredentialSignature, func(f *forge) string {
		a, b := strings.Split(f.token(f.step), "."), strings.Split(f.token(f.plain), ".")
		return a[0] + "." + b[1] + "." + a[2]
	}},
	{"a bit of the signature", "RFC 8017 8.2.2", checkSignature, id.CredentialSignature, bent(func(h, p, s string) string {
		c := "A"
		if s[0] == 'A' {
			c = "B"
		}
		return h + "." + p + "." + c + s[1:]
	})},
	{"a short signature", "RFC 8017 8.2.2", checkSignature, id.CredentialSignature, bent(func(h, p, s string) string { return h + "." + p + "." + s[:4] })},
	{"signed as RS512, labelled RS256", "RFC 8725 3.1", checkSignature, id.CredentialSignature, func(f *forge) string {
		body, _ := json.Marshal(f.claims())
		return f.acme.Key().SignRaw("RS512", []byte(f.header()), body)
	}},
	{"signed as PS256, labelled RS256", "RFC 8725 3.1", checkSignature, id.CredentialSignature, func(f *forge) string {
		body, _ := json.Marshal(f.claims())
		return f.acme.Key().SignRaw("PS256", []byte(f.header()), body)
	}},
	{"nonce a number", "OpenID Connect Core 2", checkLibrary, id.CredentialMalformed, with("nonce", 5)},
	{"distributed claims without a source", "OpenID Connect Core 5.6.2", checkLibrary, id.CredentialMalformed, with("_claim_names", map[string]any{"a": "b"})},

	// The issuer.
	{"another workspace's own token", bitbucket + ": an issuer per workspace", checkIssuer, id.CredentialIssuer, func(f *forge) string {
		return f.other.AddRepository("r"+f.stranger.ID[:8], "P").Run("main").Step(nil).Token(bb.TokenOptions{Audiences: []string{audience}})
	}},
	{"issuer with a slash", "RFC 8725 3.8: exact", checkIssuer, id.CredentialIssuer, with("iss", func(f *forge) any { return f.acme.Issuer() + "/" })},
	{"issuer in upper case", "RFC 8725 3.8", checkIssuer, id.CredentialIssuer, with("iss", func(f *forge) any { return strings.ToUpper(f.acme.Issuer()) })},
	{"issuer behind another", "RFC 8725 3.8", checkIssuer, id.CredentialIssuer, with("iss", func(f *forge) any { return "https://evil.example/?" + f.acme.Issuer() })},
	{"issuer with a NUL", "RFC 8725 3.8", checkIssuer, id.CredentialIssuer, with("iss", func(f *forge) any { return f.acme.Issuer() + "\x00" })},
	{"issuer an internal address", "SSRF through iss", checkIssuer, id.CredentialIssuer, with("iss", "http://169.254.169.254/latest")},
	{"issuer empty", "RFC 7519 4.1.1", checkIssuer, id.CredentialIssuer, with("iss", "")},
	{"issuer missing", "RFC 7519 4.1.1", checkClaims, id.CredentialIssuer, with("iss", nil)},
	{"issuer a list", "RFC 7519 4.1.1", checkClaims, id.CredentialIssuer, with("iss", func(f *forge) any { return []string{f.acme.Issuer()} })},
	{"only ISS", "RFC 7519 4: case-sensitive", checkClaims, id.CredentialIssuer, with("iss", nil, "ISS", func(f *forge) any { return f.acme.Issuer() })},

	// Claims: presence and shape.
	{"no workspaceUuid", bitbucket, checkClaims, id.CredentialClaims, with("workspaceUuid", nil)},
	{"no repositoryUuid", bitbucket, checkClaims, id.CredentialClaims, with("repositoryUuid", nil)},
	{"no pipelineUuid", bitbucket, checkClaims, id.CredentialClaims, with("pipelineUuid", nil)},
	{"no stepUuid", bitbucket, checkClaims, id.CredentialClaims, with("stepUuid", nil)},
	{"only RepositoryUuid", "RFC 7519 4: case-sensitive", checkClaims, id.CredentialClaims, with("repositoryUuid", nil, "RepositoryUuid", otherUUID)},
	{"no sub", bitbucket, checkClaims, id.CredentialClaims, with("sub", nil)},
	{"sub a number", "RFC 7519 4.1.2", checkClaims, id.CredentialClaims, with("sub", 1)},
	{"no aud", "RFC 7519 4.1.3", checkClaims, id.CredentialClaims, with("aud", nil)},
	{"aud empty list", "RFC 7519 4.1.3", checkClaims, id.CredentialClaims, with("aud", []string{})},
	{"aud object", "RFC 7519 4.1.3", checkClaims, id.CredentialClaims, with("aud", map[string]any{audience: true})},
	{"aud null", "RFC 7519 4.1.3", checkClaims, id.CredentialClaims, with("aud", literal("null"))},
	{"pipelineUuid a number", bitbucket, checkClaims, id.CredentialClaims, with("pipelineUuid", 5)},
	{"pipelineUuid null", bitbucket, checkClaims, id.CredentialClaims, with("pipelineUuid", literal("null"))},
	{"repositoryUuid with half a brace", bitbucket, checkClaims, id.CredentialClaims, with("repositoryUuid", func(f *forge) any { return "{" + f.payments.UUID })},
	{"repositoryUuid with two braces", bitbucket, checkClaims, id.CredentialClaims, with("repositoryUuid", func(f *forge) any { return "{{" + f.payments.UUID + "}}" })},
	{"repositoryUuid with a space", bitbucket, checkClaims, id.CredentialClaims, with("repositoryUuid", func(f *forge) any { return " " + f.payments.UUID })},
	{"repositoryUuid as a URN", "RFC 9562 4", checkClaims, id.CredentialClaims, with("repositoryUuid", func(f *forge) any { return "urn:uuid:" + f.payments.UUID })},
	{"repositoryUuid without hyphens", "RFC 9562 4", checkClaims, id.CredentialClaims, with("repositoryUuid", func(f *forge) any { return strings.ReplaceAll(f.payments.UUID, "-", "") })},
	{"repositoryUuid a wildcard", "no wildcards in identity", checkClaims, id.CredentialClaims, with("repositoryUuid", "*")},
	{"pipelineUuid a full-width digit", "RFC 9562 4: ASCII", checkClaims, id.CredentialClaims, with("pipelineUuid", "{1１111111-2222-3333-4444-555555555555}")},
	{"deployment a wildcard", "no wildcards in identity", checkClaims, id.CredentialClaims, with("deploymentEnvironmentUuid", "*")},
	{"deployment a list", bitbucket, checkClaims, id.CredentialClaims, with("deploymentEnvironmentUuid", []string{otherUUID})},
	{"branch a number", bitbucket, checkClaims, id.CredentialClaims, with("branchName", 5)},
	{"branch with a line end", "log injection", checkText, id.CredentialClaims, with("branchName", "main\nadmin")},
	{"branch with a NUL", "PostgreSQL 22021", checkText, id.CredentialClaims, with("branchName", "main\x00")},
	{"branch with a lone surrogate", "RFC 8259 8.2", checkText, id.CredentialClaims, with("branchName", literal(`"main\ud800"`))},
	{"branch written backwards", "U+202E, CVE-2021-42574", checkText, id.CredentialClaims, with("branchName", "a\u202eb")},
	{"branch long", "bounded text", checkText, id.CredentialClaims, with("branchName", strings.Repeat("b", 256))},

	// Times.
	{"no exp", "RFC 8725 3; Bitbucket sends it", checkTimes, id.CredentialClaims, with("exp", nil)},
	{"no iat", "its lifetime is unknown", checkTimes, id.CredentialClaims, with("iat", nil)},
	{"exp a string", "RFC 7519 2", checkTimes, id.CredentialClaims, with("exp", "4102444800")},
	{"exp with an exponent", "RFC 7519 2; one spelling", checkTimes, id.CredentialClaims, with("exp", literal("4.1e9"))},
	{"exp beyond int64", "RFC 7519 2", checkTimes, id.CredentialClaims, with("exp", literal("99999999999999999999"))},
	{"exp negative", "RFC 7519 2", checkTimes, id.CredentialClaims, with("exp", -1)},
	{"exp null", "RFC 7519 4.1.4", checkTimes, id.CredentialClaims, with("exp", literal("null"))},
	{"iat true", "RFC 7519 2", checkTimes, id.CredentialClaims, with("iat", true)},
	{"expired", "RFC 7519 4.1.4", checkExpiry, id.CredentialExpired, with("iat", at(-2*time.Hour), "exp", at(-time.Hour))},
	{"expired at the edge of the leeway", "RFC 7519 4.1.4: on or after", checkExpiry, id.CredentialExpired, with("iat", at(-time.Hour), "exp", at(-30*time.Second))},
	{"exp zero", "RFC 7519 4.1.4", checkExpiry, id.CredentialExpired, with("exp", 0, "iat", at(0))},
	{"issued in the future", "RFC 7519 4.1.6", checkIssuedAt, id.CredentialNotYetValid, with("iat", at(time.Hour), "exp", at(2*time.Hour))},
	{"issued just beyond the leeway", "RFC 7519 4.1.6", checkIssuedAt, id.CredentialNotYetValid, with("iat", at(31*time.Second))},
	{"not before", "RFC 7519 4.1.5", checkNotBefore, id.CredentialNotYetValid, with("nbf", at(31*time.Second))},
	{"not before within go-oidc's five minutes", "RFC 7519 4.1.5", checkNotBefore, id.CredentialNotYetValid, with("nbf", at(4*time.Minute))},
	{"nbf null", "RFC 7519 4.1.5", checkTimes, id.CredentialClaims, with("nbf", literal("null"))},
	{"lives too long", "a step runs 12 h at most", checkLifetime, id.CredentialLifetime, with("iat", at(0), "exp", at(12*time.Hour+time.Second))},
	{"lives for ever", "RFC 8725 3.10", checkLifetime, id.CredentialLifetime, with("exp", literal("253402300799"))},
	{"issued in 1970", "its lifetime is endless", checkLifetime, id.CredentialLifetime, with("iat", 0)},
	{"ends before it begins", "RFC 7519 4.1.4", checkLifetime, id.CredentialLifetime, with("iat", at(20*time.Second), "exp", at(10*time.Second))},

	// For whom, of whom.
	{"default audience", bitbucket + ": shared with AWS, GCP, Vault", checkAudience, id.CredentialAudience, func(f *forge) string { return f.step.Token(bb.TokenOptions{}) }},
	{"another audience", "RFC 7519 4.1.3, RFC 8725 3.9", checkAudience, id.CredentialAudience, with("aud", "https://other.example")},
	{"audience in another case", "RFC 7519 4.1.3: case-sensitive", checkAudience, id.CredentialAudience, with("aud", strings.ToUpper(audience))},
	{"audience with a slash", "RFC 8725 3.9", checkAudience, id.CredentialAudience, with("aud", audience+"/")},
	{"audience as a prefix", "RFC 8725 3.9", checkAudience, id.CredentialAudience, with("aud", audience+".evil.example")},
	{"audiences joined", "RFC 7519 4.1.3", checkAudience, id.CredentialAudience, with("aud", audience+","+audience)},
	{"many audiences, none ours", "RFC 7519 4.1.3", checkAudience, id.CredentialAudience, with("aud", []string{"a", "b", "c", "d"})},
	{"audience of a number and ours", "RFC 7519 4.1.3", checkClaims, id.CredentialClaims, with("aud", []any{1, audience})},
	{"eleven audiences", bitbucket + ": at most 10", checkClaims, id.CredentialClaims, with("aud", append(many("x", 10), audience))},
	{"another workspace's UUID", "a custom audience is anybody's", checkWorkspace, id.CredentialWorkspace, with("workspaceUuid", otherUUID)},
	{"sub of another repository", bitbucket + ": sub", checkSubject, id.CredentialSubject, with("repositoryUuid", otherUUID)},
	{"sub of another step", bitbucket + ": sub", checkSubject, id.CredentialSubject, with("stepUuid", otherUUID)},
	{"sub of another deployment", bitbucket + ": sub", checkSubject, id.CredentialSubject, with("deploymentEnvironmentUuid", otherUUID)},
	{"sub with a deployment, claim without", "a missing deployment is no wildcard", checkSubject, id.CredentialSubject, with("deploymentEnvironmentUuid", nil)},
	{"sub without a deployment, claim with", bitbucket + ": sub", checkSubject, id.CredentialSubject, with("sub", func(f *forge) any { return f.plain.Subject() }, "stepUuid", func(f *forge) any { return bb.Braced(f.plain.UUID) })},
	{"sub with four parts", bitbucket + ": sub", checkSubject, id.CredentialSubject, with("sub", "a:b:c:d")},
	{"sub empty", bitbucket + ": sub", checkSubject, id.CredentialSubject, with("sub", "")},
	{"sub turned round", bitbucket + ": sub", checkSubject, id.CredentialSubject, with("sub", func(f *forge) any {
		p := strings.Split(f.step.Subject(), ":")
		return p[2] + ":" + p[1] + ":" + p[0]
	})},
}

func many(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = prefix + strconv.Itoa(i)
	}
	return list
}

func fixed(s string) func(*forge) string { return func(*forge) string { return s } }

// signedAs signs with another algorithm of the same key, and says so.
func signedAs(algorithm string) func(*forge) string {
	return func(f *forge) string {
		body, err := json.Marshal(f.claims())
		if err != nil {
			f.t.Fatal(err)
		}
		return f.acme.Key().SignRaw(algorithm, []byte(strings.Replace(f.header(), "RS256", algorithm, 1)), body)
	}
}

// unbraced takes the braces from every claim.
func unbraced(c map[string]any) map[string]any {
	for name, value := range c {
		if s, ok := value.(string); ok {
			c[name] = strings.NewReplacer("{", "", "}", "").Replace(s)
		}
	}
	return c
}
