package config

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// JWT accepts JSON Web Tokens that an identity provider signed.
type JWT struct {
	// Issuer is what a token's iss must be. Required.
	Issuer string

	// Audience are the values of which a token's aud must hold one. Required: a token for another service is no
	// permission to call this one.
	Audience []string

	// JWKSURL is where the issuer's public keys are, as https://, or http:// to a loopback address. Exactly one of it and
	// JWKSFile is required. Keys are fetched again when they age or an unknown one is named.
	JWKSURL string

	// JWKSFile is the absolute path of a file with the issuer's public keys (a JWK set). It is read again when it changes.
	JWKSFile string

	// Algorithms are those that a signature may have: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and
	// EdDSA. Default: RS256 and ES256.
	Algorithms []string

	// PrincipalClaim is the claim that names the caller, in logs, limits and conversations, together with the issuer.
	// Default: sub. Its value must be text.
	PrincipalClaim string

	// AgentsClaim is the claim that lists the agents, as names and patterns, that the caller may call: a list, or text
	// with spaces between them. Default: empty, which means that every token may call every agent. Where it is set, a
	// token without it may call none.
	AgentsClaim string

	// Leeway is how far clocks may differ, for exp, nbf and iat. Default: 30s, at most 5m.
	Leeway time.Duration
}

// DefaultJWT is what is not written of auth.jwt; its issuer, audience and keys have no default.
func DefaultJWT() JWT {
	return JWT{Algorithms: []string{"RS256", "ES256"}, PrincipalClaim: "sub", Leeway: 30 * time.Second}
}

var jwtAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// readJWT reads the section; it is nil where nothing is written.
func readJWT(v value) *JWT {
	j := DefaultJWT()
	w := v.mapping(fields{
		"issuer":          word(&j.Issuer, 2048),
		"audience":        func(v value) { j.Audience = readAudience(v) },
		"jwks_url":        j.readURL,
		"jwks_file":       filePath(&j.JWKSFile, "jwks.json"),
		"algorithms":      func(v value) { j.Algorithms = readAlgorithms(v) },
		"principal_claim": word(&j.PrincipalClaim, 256),
		"agents_claim":    word(&j.AgentsClaim, 256),
		"leeway":          boundedSpan(&j.Leeway, 0, 5*time.Minute),
	})
	if len(w) == 0 {
		return nil
	}
	at := func(key string) value {
		if p, ok := w[key]; ok {
			return p
		}
		return v
	}
	broken := func(keys ...string) bool { // what could not be read was told already
		return slices.ContainsFunc(keys, func(key string) bool { p, ok := w[key]; return ok && v.d.failed(p) })
	}
	if j.Issuer == "" && !broken("issuer") {
		at("issuer").problem("issuer is required: what iss says in your tokens, such as https://login.example.com/")
	}
	if len(j.Audience) == 0 && !broken("audience") {
		at("audience").problem("audience is required: what aud says in the tokens that are meant for this proxy; without it a token for any other service would do")
	}
	if (j.JWKSURL == "") == (j.JWKSFile == "") && !broken("jwks_url", "jwks_file") {
		v.problem("wants exactly one of jwks_url and jwks_file: where the issuer's public keys are")
	}
	if j.JWKSFile != "" {
		if data, ok := at("jwks_file").file(j.JWKSFile); ok {
			var set struct {
				Keys []json.RawMessage `json:"keys"`
			}
			switch err := json.Unmarshal(data, &set); {
			case !json.Valid(data):
				at("jwks_file").problem("is not a JWK set, which is JSON")
			case err != nil || len(set.Keys) == 0:
				at("jwks_file").problem("holds no keys: a JWK set is an object whose keys are a list of them")
			}
		}
	}
	if j.PrincipalClaim == "" && !broken("principal_claim") {
		at("principal_claim").problem("is empty: write the claim that names the caller, or leave it out for sub")
	}
	return &j
}

func readAudience(v value) (audience []string) {
	v.list("values of aud, such as [dragoman]", func(_ int, v value) {
		var text string
		word(&text, 2048)(v)
		if text == "" {
			if !v.d.failed(v) {
				v.problem("is empty: write what aud says in your tokens")
			}
			return
		}
		audience = append(audience, text)
	})
	return audience
}

func readAlgorithms(v value) (algorithms []string) {
	ok := v.list("algorithms, such as [RS256, ES256]", func(_ int, v value) {
		text, ok := v.text("one of " + strings.Join(jwtAlgorithms, ", "))
		if !ok {
			return
		}
		switch {
		case strings.EqualFold(text, "none"):
			v.problem("is refused: a token with it is signed by nobody")
		case len(text) == 5 && strings.EqualFold(text[:2], "HS"):
			v.problem("is refused: it signs with a shared secret, and whoever has the issuer's public key could forge tokens")
		case !slices.Contains(jwtAlgorithms, text):
			v.problem("wants one of %s, not %s", strings.Join(jwtAlgorithms, ", "), v.shown())
		case slices.Contains(algorithms, text):
			v.problem("is written twice: leave one out")
		default:
			algorithms = append(algorithms, text)
		}
	})
	if ok && len(v.node.Content) == 0 {
		v.problem("is empty: leave it out for RS256 and ES256")
	}
	return algorithms
}

// readURL reads where the keys of the issuer are.
func (j *JWT) readURL(v value) {
	text, ok := v.text("an https:// url")
	if !ok || text == "" {
		return
	}
	if problem := checkKeysURL(text); problem != "" {
		v.problem("%s", problem)
		return
	}
	j.JWKSURL = text
}

// checkKeysURL is what is wrong with a url that public keys are fetched from.
func checkKeysURL(text string) string {
	plain, query, _ := strings.Cut(text, "?")
	if lower := strings.ToLower(plain); !strings.HasPrefix(lower, "https://") && !strings.HasPrefix(lower, "http://") {
		return "wants an https:// url, such as https://login.example.com/.well-known/jwks.json"
	}
	t, problem := parseTarget(plain, false, nil)
	switch {
	case strings.HasPrefix(problem, "holds a user"):
		return "holds a user or a password, which is not supported: write a url without them"
	case strings.HasPrefix(problem, "is a link-local"):
		return "is a link-local or metadata address: write the issuer's own"
	case problem != "":
		return problem
	case strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"<>\\^`|#", r) }):
		return "holds a character that must be percent-encoded, or a fragment"
	case t.Scheme == "http" && !t.Loopback():
		return "must be https://: whoever is on the way could put keys of their own in"
	}
	return ""
}
