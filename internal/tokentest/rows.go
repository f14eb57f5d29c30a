package tokentest

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

const (
	otherUUID = "{11111111-2222-3333-4444-555555555555}"
	bitbucket = "Bitbucket Pipelines OIDC"
)

// Rows is the table of odd and hostile tokens.
var Rows = []Row{
	// What is odd and right.
	{"as issued", bitbucket, "", "", With()},
	{"one audience as a list", "RFC 7519 4.1.3", "", "", With("aud", []string{Audience})},
	{"ten audiences, ours last", bitbucket + ": at most 10", "", "", With("aud", append(many("https://x.example/", 9), Audience))},
	{"second configured audience", bitbucket, "", "", With("aud", SecondAudience)},
	{"no branch", bitbucket + ": a tag has none", "", "", With("branchName", nil)},
	{"empty branch", bitbucket, "", "", With("branchName", "")},
	{"branch null", bitbucket, "", "", With("branchName", literal("null"))},
	{"branch not ASCII", "git allows it", "", "", With("branchName", "größe/日本")},
	{"deployment name claimed as well", bitbucket + ": Atlassian's sample", "", "", With("deploymentEnvironment", "testing")},
	{"unknown claims", "RFC 7519 4", "", "", With("compliant", true, "accountUuid", otherUUID, "x", map[string]any{"y": 1})},
	{"UUIDs bare", "normalized by the reader", "", "", func(f *Forge) string {
		return f.Workspace.Key().Sign(nil, unbraced(f.Claims()))
	}},
	{"UUIDs in upper case", "RFC 9562 4", "", "", func(f *Forge) string {
		c := f.Claims()
		for _, n := range []string{"workspaceUuid", "repositoryUuid", "stepUuid", "pipelineUuid", "deploymentEnvironmentUuid", "sub"} {
			c[n] = strings.ToUpper(c[n].(string))
		}
		return f.Sign(c)
	}},
	{"expired within the leeway", "RFC 7519 4.1.4", "", "", With("iat", At(-time.Hour), "exp", At(-29*time.Second))},
	{"issued ahead within the leeway", "RFC 7519 4.1.6", "", "", With("iat", At(29*time.Second))},
	{"nbf within the leeway", "RFC 7519 4.1.5", "", "", With("nbf", At(29*time.Second))},
	{"longest lifetime", bitbucket + ": a step runs 12 h at most", "", "", With("iat", At(0), "exp", At(12*time.Hour))},
	{"time with a fraction", "RFC 7519 2 NumericDate", "", "", With("exp", func(f *Forge) any { return literal(strconv.FormatInt(f.Now.Unix()+60, 10) + ".75") })},
	{"no typ", "RFC 7515 4.1.9", "", "", header("typ", nil)},
	{"typ in lower case", "RFC 7519 5.1", "", "", header("typ", "jwt")},
	{"thumbprint in the header", "RFC 7515 4.1.7", "", "", header("x5t", "abc")},
	{"white space in the JSON", "RFC 8259 2", "", "", payload(func(_ *Forge, s string) string { return " \n\t" + s + "\r\n" })},
	{"escaped claim name", "RFC 8259 7", "", "", payload(func(_ *Forge, s string) string { return strings.Replace(s, `"iss"`, `"\u0069ss"`, 1) })},
	{"step that deploys nothing", bitbucket, "", "", func(f *Forge) string { return f.token(f.Plain) }},
	{"deployment null", bitbucket, "", "", func(f *Forge) string {
		c := f.Plain.Claims(bitbuckettest.TokenOptions{Audiences: []string{Audience}})
		c["deploymentEnvironmentUuid"] = nil
		return f.Sign(c)
	}},

	// The compact form.
	{"too large", "bounded input", "size", identity.CredentialTooLarge, With("x", strings.Repeat("a", 8<<10))},
	{"a word", "RFC 7515 7.1", "form", identity.CredentialMalformed, fixed("hello")},
	{"two parts", "RFC 7515 7.1", "form", identity.CredentialMalformed, bent(func(h, p, _ string) string { return h + "." + p })},
	{"four parts", "RFC 7515 7.1", "form", identity.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + s + "." + s })},
	{"encrypted", "RFC 7516 7.1", "form", identity.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + s + ".e.t" })},
	{"empty signature", "RFC 7519 6", "form", identity.CredentialMalformed, bent(func(h, p, _ string) string { return h + "." + p + "." })},
	{"empty payload", "RFC 7797 5", "form", identity.CredentialMalformed, bent(func(h, _, s string) string { return h + ".." + s })},
	{"flattened JSON", "RFC 7519 1: compact only", "form", identity.CredentialMalformed, jsonForm(false)},
	{"general JSON", "RFC 7519 1: compact only", "form", identity.CredentialMalformed, jsonForm(true)},
	{"only dots", "RFC 7515 7.1", "form", identity.CredentialMalformed, fixed("..")},
	{"padded", "RFC 7515 2", "base64", identity.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + s + "==" })},
	{"stray bits in the signature", "RFC 4648 3.5", "base64", identity.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + strayBits(s) })},
	{"line end in the signature", "RFC 7515 2", "base64", identity.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + s[:9] + "\n" + s[9:] })},
	{"line end behind it", "RFC 7515 2", "base64", identity.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + s + "\r\n" })},
	{"space in the header", "RFC 7515 2", "base64", identity.CredentialMalformed, bent(func(h, p, s string) string { return h[:4] + " " + h[4:] + "." + p + "." + s })},
	{"standard alphabet", "RFC 7515 2", "base64", identity.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p + "." + s[:4] + "+/" + s[6:] })},
	{"NUL in the payload part", "RFC 7515 2", "base64", identity.CredentialMalformed, bent(func(h, p, s string) string { return h + "." + p[:8] + "\x00" + p[8:] + "." + s })},

	// JSON.
	{"header is a list", "RFC 7515 4", "json", identity.CredentialMalformed, rawHeader(`[1]`)},
	{"header is not JSON", "RFC 7515 4", "json", identity.CredentialMalformed, rawHeader(`{"alg":"RS256"`)},
	{"header not UTF-8", "RFC 7515 2", "json", identity.CredentialMalformed, rawHeader("{\"alg\":\"RS256\",\"kid\":\"\xff\"}")},
	{"header with a trailing comma", "RFC 8259 4", "json", identity.CredentialMalformed, rawHeader(`{"alg":"RS256","kid":"KID",}`)},
	{"payload is a string", "RFC 7519 4", "json", identity.CredentialClaims, payload(func(*Forge, string) string { return `"x"` })},
	{"payload null", "RFC 7519 4", "json", identity.CredentialClaims, payload(func(*Forge, string) string { return `null` })},
	{"two objects", "RFC 8259 2", "json", identity.CredentialClaims, payload(func(_ *Forge, s string) string { return s + s })},
	{"byte order mark", "RFC 8259 8.1", "json", identity.CredentialClaims, payload(func(_ *Forge, s string) string { return "\ufeff" + s })},
	{"payload not UTF-8", "RFC 7519 7.2", "json", identity.CredentialClaims, appended("\"x\":\"\xc3\x28\"")},
	{"comment", "RFC 8259 2", "json", identity.CredentialClaims, payload(func(_ *Forge, s string) string { return s[:1] + "/**/" + s[1:] })},
	{"NaN", "RFC 8259 6", "json", identity.CredentialClaims, appended(`"x":NaN`)},
	{"nested deeply", "bounded depth", "json", identity.CredentialClaims, appended(`"x":` + strings.Repeat("[", 50) + strings.Repeat("]", 50))},
	{"iss twice", "RFC 7519 4", "duplicates", identity.CredentialClaims, prepend(`"iss":"https://evil.example"`)},
	{"repositoryUuid twice", "RFC 7519 4", "duplicates", identity.CredentialClaims, prepend(`"repositoryUuid":"` + otherUUID + `"`)},
	{"aud twice", "RFC 7519 4", "duplicates", identity.CredentialClaims, prepend(`"aud":"x"`)},
	{"exp twice", "RFC 7519 4", "duplicates", identity.CredentialClaims, prepend(`"exp":1`)},
	{"iss twice, one escaped", "RFC 7519 4, RFC 8259 7", "duplicates", identity.CredentialClaims, prepend(`"\u0069ss":"https://evil.example"`)},
	{"twice inside", "RFC 7519 4", "duplicates", identity.CredentialClaims, appended(`"x":{"a":1,"a":2}`)},
	{"alg twice", "RFC 7515 4", "duplicates", identity.CredentialMalformed, rawHeader(`{"alg":"none","alg":"RS256","kid":"KID"}`)},
	{"kid twice", "RFC 7515 4", "duplicates", identity.CredentialMalformed, rawHeader(`{"kid":"x","alg":"RS256","kid":"KID"}`)},
	{"Exp beside exp", "RFC 7519 4: names are case-sensitive", "case", identity.CredentialClaims, prepend(`"Exp":4102444800`)},
	{"RepositoryUuid beside repositoryUuid", "RFC 7519 4", "case", identity.CredentialClaims, appended(`"RepositoryUuid":"` + otherUUID + `"`)},
	{"ISS beside iss", "RFC 7519 4", "case", identity.CredentialClaims, appended(`"ISS":"https://evil.example"`)},
	{"iss with a long s", "encoding/json folds U+017F", "case", identity.CredentialClaims, appended(`"i\u017fs":"https://evil.example"`)},
	{"ALG beside alg", "RFC 7515 4", "case", identity.CredentialMalformed, rawHeader(`{"alg":"RS256","ALG":"none","kid":"KID"}`)},

	// The header.
	{"alg none", "RFC 8725 3.2", "algorithm", identity.CredentialAlgorithm, header("alg", "none")},
	{"alg None", "RFC 8725 3.2", "algorithm", identity.CredentialAlgorithm, header("alg", "None")},
	{"alg in lower case", "RFC 7515 4.1.1: case-sensitive", "algorithm", identity.CredentialAlgorithm, header("alg", "rs256")},
	{"alg missing", "RFC 7515 4.1.1", "algorithm", identity.CredentialAlgorithm, header("alg", nil)},
	{"alg a number", "RFC 7515 4.1.1", "algorithm", identity.CredentialAlgorithm, header("alg", 256)},
	{"alg a list", "RFC 7515 4.1.1", "algorithm", identity.CredentialAlgorithm, header("alg", []string{"RS256"})},
	{"HS256 with the public key", "CVE-2015-9235, RFC 8725 2.1", "algorithm", identity.CredentialAlgorithm, func(f *Forge) string {
		body, _ := json.Marshal(f.Claims())
		return bitbuckettest.SignHMAC("HS256", f.Workspace.Key().PublicPEM(), []byte(strings.Replace(f.header(), "RS256", "HS256", 1)), body)
	}},
	{"RS512", "RFC 8725 3.1", "algorithm", identity.CredentialAlgorithm, signedAs("RS512")},
	{"RS384", "RFC 8725 3.1", "algorithm", identity.CredentialAlgorithm, signedAs("RS384")},
	{"PS256", "RFC 8725 3.1", "algorithm", identity.CredentialAlgorithm, signedAs("PS256")},
	{"ES256 by a published key", "RFC 8725 3.1", "algorithm", identity.CredentialAlgorithm, func(f *Forge) string { return f.ES256.Sign(nil, f.Claims()) }},
	{"crit", "RFC 7515 4.1.11", "header", identity.CredentialMalformed, header("crit", []string{"exp"}, "exp", 1)},
	{"crit empty", "RFC 7515 4.1.11", "header", identity.CredentialMalformed, header("crit", []string{})},
	{"b64 false", "RFC 7797 3", "header", identity.CredentialMalformed, header("b64", false)},
	{"jku", "RFC 8725 3.10", "header", identity.CredentialMalformed, header("jku", "https://evil.example/keys.json")},
	{"x5u", "RFC 8725 3.10", "header", identity.CredentialMalformed, header("x5u", "https://evil.example/c.pem")},
	{"jwk", "CVE-2018-0114", "header", identity.CredentialMalformed, func(f *Forge) string {
		return f.Workspace.Key().Sign(map[string]any{"jwk": f.Stranger.JWK()}, f.Claims())
	}},
	{"x5c", "RFC 7515 4.1.6", "header", identity.CredentialMalformed, header("x5c", []string{})},
	{"zip", "RFC 7516 4.1.3", "header", identity.CredentialMalformed, header("zip", "DEF")},
	{"enc", "RFC 7516 4.1.2", "header", identity.CredentialMalformed, header("enc", "A128GCM")},
	{"nested token", "RFC 7519 5.2", "header", identity.CredentialMalformed, header("cty", "JWT")},
	{"access token", "RFC 8725 3.11, RFC 9068 2.1", "type", identity.CredentialMalformed, header("typ", "at+jwt")},
	{"logout token", "RFC 8725 3.11", "type", identity.CredentialMalformed, header("typ", "logout+jwt")},
	{"typ a number", "RFC 7515 4.1.9", "type", identity.CredentialMalformed, header("typ", 1)},
	{"typ empty", "RFC 7515 4.1.9", "type", identity.CredentialMalformed, header("typ", "")},
	{"no kid", "RFC 7515 4.1.4; Bitbucket names it", "key_id", identity.CredentialKeyUnknown, header("kid", nil)},
	{"kid empty", "RFC 7515 4.1.4", "key_id", identity.CredentialKeyUnknown, header("kid", "")},
	{"kid a number", "RFC 7515 4.1.4", "key_id", identity.CredentialKeyUnknown, header("kid", 1)},
	{"kid with a line end", "RFC 8725 3.10", "key_id", identity.CredentialKeyUnknown, header("kid", "a\nb")},
	{"kid long", "RFC 8725 3.10", "key_id", identity.CredentialKeyUnknown, header("kid", strings.Repeat("k", 257))},
	{"kid a path", "RFC 8725 3.10", "key", identity.CredentialKeyUnknown, header("kid", "../../../../dev/null")},
	{"kid SQL", "RFC 8725 3.10", "key", identity.CredentialKeyUnknown, header("kid", "' OR '1'='1")},
	{"kid in another case", "RFC 7515 4.1.4: case-sensitive", "key", identity.CredentialKeyUnknown, func(f *Forge) string {
		return f.Workspace.Key().Sign(map[string]any{"kid": strings.ToUpper(f.Workspace.Key().ID)}, f.Claims())
	}},
	{"kid of a key for another algorithm", "RFC 8725 3.1", "key", identity.CredentialKeyUnknown, func(f *Forge) string {
		return f.Workspace.Key().Sign(map[string]any{"kid": f.ES256.ID}, f.Claims())
	}},
	{"a stranger's key under its own id", "RFC 7515 10.1", "key", identity.CredentialKeyUnknown, func(f *Forge) string { return f.Stranger.Sign(nil, f.Claims()) }},

	// The signature.
	{"a stranger's key under our id", "RFC 7515 5.2", "signature", identity.CredentialSignature, func(f *Forge) string {
		return f.Stranger.Sign(map[string]any{"kid": f.Workspace.Key().ID}, f.Claims())
	}},
	{"another workspace's key", "one issuer, its own keys", "signature", identity.CredentialSignature, func(f *Forge) string {
		return f.Other.Key().Sign(map[string]any{"kid": f.Workspace.Key().ID}, f.Claims())
	}},
	{"payload exchanged", "RFC 7515 5.2", "signature", identity.CredentialSignature, func(f *Forge) string {
		a, b := strings.Split(f.token(f.Step), "."), strings.Split(f.token(f.Plain), ".")
		return a[0] + "." + b[1] + "." + a[2]
	}},
	{"a bit of the signature", "RFC 8017 8.2.2", "signature", identity.CredentialSignature, bent(func(h, p, s string) string {
		c := "A"
		if s[0] == 'A' {
			c = "B"
		}
		return h + "." + p + "." + c + s[1:]
	})},
	{"a short signature", "RFC 8017 8.2.2", "signature", identity.CredentialSignature, bent(func(h, p, s string) string { return h + "." + p + "." + s[:4] })},
	{"signed as RS512, labelled RS256", "RFC 8725 3.1", "signature", identity.CredentialSignature, func(f *Forge) string {
		body, _ := json.Marshal(f.Claims())
		return f.Workspace.Key().SignRaw("RS512", []byte(f.header()), body)
	}},
	{"signed as PS256, labelled RS256", "RFC 8725 3.1", "signature", identity.CredentialSignature, func(f *Forge) string {
		body, _ := json.Marshal(f.Claims())
		return f.Workspace.Key().SignRaw("PS256", []byte(f.header()), body)
	}},
	{"nonce a number", "OpenID Connect Core 2", "library", identity.CredentialMalformed, With("nonce", 5)},
	{"distributed claims without a source", "OpenID Connect Core 5.6.2", "library", identity.CredentialMalformed, With("_claim_names", map[string]any{"a": "b"})},

	// The issuer.
	{"another workspace's own token", bitbucket + ": an issuer per workspace", "issuer", identity.CredentialIssuer, func(f *Forge) string { return f.token(f.foreign) }},
	{"issuer with a slash", "RFC 8725 3.8: exact", "issuer", identity.CredentialIssuer, With("iss", func(f *Forge) any { return f.Workspace.Issuer() + "/" })},
	{"issuer in upper case", "RFC 8725 3.8", "issuer", identity.CredentialIssuer, With("iss", func(f *Forge) any { return strings.ToUpper(f.Workspace.Issuer()) })},
	{"issuer behind another", "RFC 8725 3.8", "issuer", identity.CredentialIssuer, With("iss", func(f *Forge) any { return "https://evil.example/?" + f.Workspace.Issuer() })},
	{"issuer with a NUL", "RFC 8725 3.8", "issuer", identity.CredentialIssuer, With("iss", func(f *Forge) any { return f.Workspace.Issuer() + "\x00" })},
	{"issuer an internal address", "SSRF through iss", "issuer", identity.CredentialIssuer, With("iss", "http://169.254.169.254/latest")},
	{"issuer empty", "RFC 7519 4.1.1", "issuer", identity.CredentialIssuer, With("iss", "")},
	{"issuer missing", "RFC 7519 4.1.1", "claims", identity.CredentialIssuer, With("iss", nil)},
	{"issuer a list", "RFC 7519 4.1.1", "claims", identity.CredentialIssuer, With("iss", func(f *Forge) any { return []string{f.Workspace.Issuer()} })},
	{"only ISS", "RFC 7519 4: case-sensitive", "claims", identity.CredentialIssuer, With("iss", nil, "ISS", func(f *Forge) any { return f.Workspace.Issuer() })},

	// Claims: presence and shape.
	{"no workspaceUuid", bitbucket, "claims", identity.CredentialClaims, With("workspaceUuid", nil)},
	{"no repositoryUuid", bitbucket, "claims", identity.CredentialClaims, With("repositoryUuid", nil)},
	{"no pipelineUuid", bitbucket, "claims", identity.CredentialClaims, With("pipelineUuid", nil)},
	{"no stepUuid", bitbucket, "claims", identity.CredentialClaims, With("stepUuid", nil)},
	{"only RepositoryUuid", "RFC 7519 4: case-sensitive", "claims", identity.CredentialClaims, With("repositoryUuid", nil, "RepositoryUuid", otherUUID)},
	{"no sub", bitbucket, "claims", identity.CredentialClaims, With("sub", nil)},
	{"sub a number", "RFC 7519 4.1.2", "claims", identity.CredentialClaims, With("sub", 1)},
	{"no aud", "RFC 7519 4.1.3", "claims", identity.CredentialClaims, With("aud", nil)},
	{"aud empty list", "RFC 7519 4.1.3", "claims", identity.CredentialClaims, With("aud", []string{})},
	{"aud object", "RFC 7519 4.1.3", "claims", identity.CredentialClaims, With("aud", map[string]any{Audience: true})},
	{"aud null", "RFC 7519 4.1.3", "claims", identity.CredentialClaims, With("aud", literal("null"))},
	{"pipelineUuid a number", bitbucket, "claims", identity.CredentialClaims, With("pipelineUuid", 5)},
	{"pipelineUuid null", bitbucket, "claims", identity.CredentialClaims, With("pipelineUuid", literal("null"))},
	{"repositoryUuid with half a brace", bitbucket, "claims", identity.CredentialClaims, With("repositoryUuid", func(f *Forge) any { return "{" + f.Payments.UUID })},
	{"repositoryUuid with two braces", bitbucket, "claims", identity.CredentialClaims, With("repositoryUuid", func(f *Forge) any { return "{{" + f.Payments.UUID + "}}" })},
	{"repositoryUuid with a space", bitbucket, "claims", identity.CredentialClaims, With("repositoryUuid", func(f *Forge) any { return " " + f.Payments.UUID })},
	{"repositoryUuid as a URN", "RFC 9562 4", "claims", identity.CredentialClaims, With("repositoryUuid", func(f *Forge) any { return "urn:uuid:" + f.Payments.UUID })},
	{"repositoryUuid without hyphens", "RFC 9562 4", "claims", identity.CredentialClaims, With("repositoryUuid", func(f *Forge) any { return strings.ReplaceAll(f.Payments.UUID, "-", "") })},
	{"repositoryUuid a wildcard", "no wildcards in identity", "claims", identity.CredentialClaims, With("repositoryUuid", "*")},
	{"pipelineUuid a full-width digit", "RFC 9562 4: ASCII", "claims", identity.CredentialClaims, With("pipelineUuid", "{1１111111-2222-3333-4444-555555555555}")},
	{"deployment a wildcard", "no wildcards in identity", "claims", identity.CredentialClaims, With("deploymentEnvironmentUuid", "*")},
	{"deployment a list", bitbucket, "claims", identity.CredentialClaims, With("deploymentEnvironmentUuid", []string{otherUUID})},
	{"branch a number", bitbucket, "claims", identity.CredentialClaims, With("branchName", 5)},
	{"branch with a line end", "log injection", "text", identity.CredentialClaims, With("branchName", "main\nadmin")},
	{"branch with a NUL", "PostgreSQL 22021", "text", identity.CredentialClaims, With("branchName", "main\x00")},
	{"branch with a lone surrogate", "RFC 8259 8.2", "text", identity.CredentialClaims, With("branchName", literal(`"main\ud800"`))},
	{"branch written backwards", "U+202E, CVE-2021-42574", "text", identity.CredentialClaims, With("branchName", "a\u202eb")},
	{"branch long", "bounded text", "text", identity.CredentialClaims, With("branchName", strings.Repeat("b", 256))},

	// Times.
	{"no exp", "RFC 8725 3; Bitbucket sends it", "times", identity.CredentialClaims, With("exp", nil)},
	{"no iat", "its lifetime is unknown", "times", identity.CredentialClaims, With("iat", nil)},
	{"exp a string", "RFC 7519 2", "times", identity.CredentialClaims, With("exp", "4102444800")},
	{"exp with an exponent", "RFC 7519 2; one spelling", "times", identity.CredentialClaims, With("exp", literal("4.1e9"))},
	{"exp beyond int64", "RFC 7519 2", "times", identity.CredentialClaims, With("exp", literal("99999999999999999999"))},
	{"exp negative", "RFC 7519 2", "times", identity.CredentialClaims, With("exp", -1)},
	{"exp null", "RFC 7519 4.1.4", "times", identity.CredentialClaims, With("exp", literal("null"))},
	{"iat true", "RFC 7519 2", "times", identity.CredentialClaims, With("iat", true)},
	{"expired", "RFC 7519 4.1.4", "expiry", identity.CredentialExpired, With("iat", At(-2*time.Hour), "exp", At(-time.Hour))},
	{"expired at the edge of the leeway", "RFC 7519 4.1.4: on or after", "expiry", identity.CredentialExpired, With("iat", At(-time.Hour), "exp", At(-30*time.Second))},
	{"exp zero", "RFC 7519 4.1.4", "expiry", identity.CredentialExpired, With("exp", 0, "iat", At(0))},
	{"issued in the future", "RFC 7519 4.1.6", "issued_at", identity.CredentialNotYetValid, With("iat", At(time.Hour), "exp", At(2*time.Hour))},
	{"issued just beyond the leeway", "RFC 7519 4.1.6", "issued_at", identity.CredentialNotYetValid, With("iat", At(31*time.Second))},
	{"not before", "RFC 7519 4.1.5", "not_before", identity.CredentialNotYetValid, With("nbf", At(31*time.Second))},
	{"not before within go-oidc's five minutes", "RFC 7519 4.1.5", "not_before", identity.CredentialNotYetValid, With("nbf", At(4*time.Minute))},
	{"nbf null", "RFC 7519 4.1.5", "times", identity.CredentialClaims, With("nbf", literal("null"))},
	{"lives too long", "a step runs 12 h at most", "lifetime", identity.CredentialLifetime, With("iat", At(0), "exp", At(12*time.Hour+time.Second))},
	{"lives for ever", "RFC 8725 3.10", "lifetime", identity.CredentialLifetime, With("exp", literal("253402300799"))},
	{"issued in 1970", "its lifetime is endless", "lifetime", identity.CredentialLifetime, With("iat", 0)},
	{"ends before it begins", "RFC 7519 4.1.4", "lifetime", identity.CredentialLifetime, With("iat", At(20*time.Second), "exp", At(10*time.Second))},

	// For whom, of whom.
	{"default audience", bitbucket + ": shared with AWS, GCP, Vault", "audience", identity.CredentialAudience, func(f *Forge) string { return f.Step.Token(bitbuckettest.TokenOptions{}) }},
	{"another audience", "RFC 7519 4.1.3, RFC 8725 3.9", "audience", identity.CredentialAudience, With("aud", "https://other.example")},
	{"audience in another case", "RFC 7519 4.1.3: case-sensitive", "audience", identity.CredentialAudience, With("aud", strings.ToUpper(Audience))},
	{"audience with a slash", "RFC 8725 3.9", "audience", identity.CredentialAudience, With("aud", Audience+"/")},
	{"audience as a prefix", "RFC 8725 3.9", "audience", identity.CredentialAudience, With("aud", Audience+".evil.example")},
	{"audiences joined", "RFC 7519 4.1.3", "audience", identity.CredentialAudience, With("aud", Audience+","+Audience)},
	{"many audiences, none ours", "RFC 7519 4.1.3", "audience", identity.CredentialAudience, With("aud", []string{"a", "b", "c", "d"})},
	{"audience of a number and ours", "RFC 7519 4.1.3", "claims", identity.CredentialClaims, With("aud", []any{1, Audience})},
	{"eleven audiences", bitbucket + ": at most 10", "claims", identity.CredentialClaims, With("aud", append(many("x", 10), Audience))},
	{"another workspace's UUID", "a custom audience is anybody's", "workspace", identity.CredentialWorkspace, With("workspaceUuid", otherUUID)},
	{"sub of another repository", bitbucket + ": sub", "subject", identity.CredentialSubject, With("repositoryUuid", otherUUID)},
	{"sub of another step", bitbucket + ": sub", "subject", identity.CredentialSubject, With("stepUuid", otherUUID)},
	{"sub of another deployment", bitbucket + ": sub", "subject", identity.CredentialSubject, With("deploymentEnvironmentUuid", otherUUID)},
	{"sub with a deployment, claim without", "a missing deployment is not a wildcard", "subject", identity.CredentialSubject, With("deploymentEnvironmentUuid", nil)},
	{"sub without a deployment, claim with", bitbucket + ": sub", "subject", identity.CredentialSubject, With("sub", func(f *Forge) any { return f.Plain.Subject() }, "stepUuid", func(f *Forge) any { return bitbuckettest.Braced(f.Plain.UUID) })},
	{"sub with four parts", bitbucket + ": sub", "subject", identity.CredentialSubject, With("sub", "a:b:c:d")},
	{"sub empty", bitbucket + ": sub", "subject", identity.CredentialSubject, With("sub", "")},
	{"sub turned round", bitbucket + ": sub", "subject", identity.CredentialSubject, With("sub", func(f *Forge) any {
		p := strings.Split(f.Step.Subject(), ":")
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

func fixed(s string) func(*Forge) string { return func(*Forge) string { return s } }

// signedAs signs with another algorithm of the same key, and names it in the header.
func signedAs(algorithm string) func(*Forge) string {
	return func(f *Forge) string {
		body, err := json.Marshal(f.Claims())
		if err != nil {
			panic(err)
		}
		return f.Workspace.Key().SignRaw(algorithm, []byte(strings.Replace(f.header(), "RS256", algorithm, 1)), body)
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
