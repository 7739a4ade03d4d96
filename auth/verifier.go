package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/go-jose/go-jose/v4"
)

// TokenConfig says which JSON Web Tokens are accepted, and where the keys are that sign them.
type TokenConfig struct {
	// Issuer is what iss must be, to the letter. Required.
	Issuer string

	// Audience are the values of which aud, a text or a list, must hold one. Required: a token that was made for another
	// service must not work here.
	Audience []string

	// JWKSURL, JWKSFile and JWKS are where the issuer's public keys are, as a JWK set; exactly one of them is required.
	//
	// JWKSURL is https, or http to a loopback address. It is fetched in the background every five minutes, and when a
	// token names a key that is not known, but at most every ten seconds. No proxy of the environment is used and no
	// redirect is followed. JWKSFile is the path of a file that is looked at every five seconds. JWKS is the set itself.
	JWKSURL  string
	JWKSFile string
	JWKS     []byte

	// Algorithms are those that a signature may have: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and
	// EdDSA. Default: RS256 and ES256. Others are refused, above all none and the symmetric ones.
	Algorithms []string

	// PrincipalClaim is the claim that names the caller: a text of at most 256 printable bytes. Default: sub.
	PrincipalClaim string

	// AgentsClaim is the claim with the names and patterns of the agents that the caller may call: a list of texts, or one
	// text with spaces between them. Where it is set, a token without it may call none. Default: empty, and every token
	// may call all agents.
	AgentsClaim string

	// Leeway is how far the issuer's clock may differ, for exp, nbf and iat: 0 to 5 minutes.
	Leeway time.Duration

	// Changed is told when the keys cannot be loaded any more, with the reason, and when they can again, with nil: once for
	// each change. It is called from the background, one call after the other, and must not close the verifier. The
	// first load that succeeds is no change. Default: nobody is told.
	Changed func(err error)
}

// Verifier verifies JSON Web Tokens. It may be used by many goroutines at once.
type Verifier struct {
	issuer     string
	audience   []string
	algorithms []jose.SignatureAlgorithm
	principal  string
	agents     string
	leeway     time.Duration
	keys       *refresher
}

// algorithms are those with a public key, and so without a secret that whoever knows the public key would know too.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// maxLeeway keeps a leeway from being a way to use expired tokens.
const maxLeeway = 5 * time.Minute

// NewVerifier makes a [Verifier], which must be closed. Keys of a file or in the configuration are loaded at once, and an
// error says why they cannot be; those behind a url are loaded in the background, and until then tokens are
// [ErrUnavailable].
func NewVerifier(c TokenConfig) (*Verifier, error) {
	load, err := keySource(c)
	return newVerifier(c, load, err)
}

// newVerifier makes a verifier whose keys come from load; bad is why they cannot.
func newVerifier(c TokenConfig, load func(context.Context) ([]byte, error), bad error) (*Verifier, error) {
	v := &Verifier{issuer: c.Issuer, audience: slices.Clone(c.Audience), principal: c.PrincipalClaim, agents: c.AgentsClaim, leeway: c.Leeway}
	if v.principal == "" {
		v.principal = "sub"
	}
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.Issuer == "" {
		problem("an issuer is required")
	}
	if strings.ContainsFunc(c.Issuer, func(r rune) bool { return !unicode.IsPrint(r) }) {
		problem("the issuer holds a character that does not print")
	}
	if len(c.Audience) == 0 || slices.Contains(c.Audience, "") {
		problem("an audience is required: a token for another service must not work here")
	}
	if c.Leeway < 0 || c.Leeway > maxLeeway {
		problem("the leeway is not within 0s and %v", maxLeeway)
	}
	names := c.Algorithms
	if names == nil {
		names = []string{"RS256", "ES256"}
	}
	for _, name := range names {
		alg := jose.SignatureAlgorithm(name)
		if !slices.Contains(algorithms, alg) {
			problem("the algorithm %q is refused: only those with a public key are taken: %v", name, algorithms)
		} else if !slices.Contains(v.algorithms, alg) {
			v.algorithms = append(v.algorithms, alg)
		}
	}
	if len(names) == 0 {
		problem("an algorithm is required")
	}
	if bad != nil {
		problems = append(problems, bad)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("tokens: %w", errors.Join(problems...))
	}
	keys, err := newRefresher(load, v.algorithms, c)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	v.keys = keys
	return v, nil
}

// Close ends what runs in the background. Tokens are judged by the keys that are there. It may be called several times.
func (v *Verifier) Close() {
	if v.keys != nil {
		v.keys.close()
	}
}

// Ready is nil when tokens can be judged. Otherwise it is an [ErrUnavailable] that says why the public keys could not be
// loaded.
func (v *Verifier) Ready() error { return v.keys.ready() }

// verify decides about a token; hash is its SHA-256. A token that was seen before is answered from memory.
func (v *Verifier) verify(token []byte, hash [32]byte, now time.Time) (*Principal, error) {
	set := v.keys.set.Load()
	if set != nil {
		if p := set.seen.find(&hash, now); p != nil {
			return p, nil
		}
	}
	return v.judge(string(token), hash, now, set)
}
