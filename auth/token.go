package auth

import (
	"bytes"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// maxSubject bounds the claim that names the caller: OpenID allows 255 characters.
const maxSubject = 256

// seenFor is how long a token is answered from memory. Its signature cannot become wrong; this bounds the memory of tokens
// that nobody sends any more.
const seenFor = 5 * time.Minute

var (
	errNotToken         = &rejection{"neither a token nor a key that may be here"}
	errTokenMalformed   = &rejection{"malformed token"}
	errTokenAlgorithm   = &rejection{"token with an algorithm that is not allowed"}
	errTokenType        = &rejection{"token of another type"}
	errTokenCritical    = &rejection{"token with a critical extension"}
	errTokenKey         = &rejection{"token signed with an unknown key"}
	errTokenSignature   = &rejection{"token with a wrong signature"}
	errTokenIssuer      = &rejection{"token of another issuer"}
	errTokenAudience    = &rejection{"token for another audience"}
	errTokenEndless     = &rejection{"token without an expiry"}
	errTokenExpired     = &rejection{"expired token"}
	errTokenNotYetValid = &rejection{"token that is not valid yet"}
	errTokenPrincipal   = &rejection{"token without a usable principal"}
	errTokenAgents      = &rejection{"token with an unreadable list of agents"}
)

// isToken reports whether a bearer has the three parts of a signed token.
func isToken(credential []byte) bool { return bytes.Count(credential, []byte{'.'}) == 2 }

// judge decides about a token that is not in memory.
func (v *Verifier) judge(token string, hash [32]byte, now time.Time, set *keySet) (*Principal, error) {
	signed, err := jose.ParseSignedCompact(token, v.algorithms)
	if err != nil {
		if _, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
			return nil, errTokenAlgorithm
		}
		return nil, errTokenMalformed
	}
	header := &signed.Signatures[0].Protected
	if refused := checkHeader(header); refused != nil {
		return nil, refused
	}
	set, payload, err := v.payload(signed, header, set)
	if err != nil {
		return nil, err
	}
	var claims jwt.Claims
	var all map[string]json.RawMessage
	if json.Unmarshal(payload, &claims) != nil || json.Unmarshal(payload, &all) != nil {
		return nil, errTokenMalformed
	}
	if refused := v.checkClaims(&claims, now); refused != nil {
		return nil, refused
	}
	subject, ok := text(all[v.principal])
	if !ok || !isSubject(subject) {
		return nil, errTokenPrincipal
	}
	p := &Principal{Name: v.issuer + "|" + subject, Token: true}
	if v.agents != "" {
		if p.Agents, ok = agentsOf(all[v.agents]); !ok {
			return nil, errTokenAgents
		}
	}
	until := claims.Expiry.Time().Add(v.leeway)
	if end := now.Add(seenFor); end.Before(until) {
		until = end
	}
	set.seen.add(&seenToken{hash: hash, principal: p, until: until}, now)
	return p, nil
}

// checkHeader looks at what the library leaves to its user. Keys in a header (jwk, jku, x5c, x5u) are not looked at: a
// token does not say whom to believe.
func checkHeader(h *jose.Header) *rejection {
	for name, value := range h.ExtraHeaders {
		switch name {
		case "typ":
			// Issuers sign other things with the same keys, such as logout tokens, which say so here.
			switch t, _ := value.(string); strings.TrimPrefix(strings.ToLower(t), "application/") {
			case "jwt", "at+jwt":
			default:
				return errTokenType
			}
		case "cty":
			return errTokenType // what is inside is no set of claims
		case "crit", "b64":
			return errTokenCritical // we know no extension
		}
	}
	return nil
}

// payload verifies the signature and gives what it signs, and the set with the key that verified it.
func (v *Verifier) payload(signed *jose.JSONWebSignature, h *jose.Header, set *keySet) (*keySet, []byte, error) {
	if set == nil {
		if set = v.keys.newer(nil); set == nil {
			return nil, nil, ErrUnavailable
		}
	}
	payload, known := set.verify(signed, h)
	if !known {
		// The issuer may have begun to sign with a new key.
		if newer := v.keys.newer(set); newer != set {
			set = newer
			payload, known = set.verify(signed, h)
		}
	}
	switch {
	case !known:
		return nil, nil, errTokenKey
	case payload == nil:
		return nil, nil, errTokenSignature
	}
	return set, payload, nil
}

// checkClaims checks whose token it is, for whom, and when.
func (v *Verifier) checkClaims(c *jwt.Claims, now time.Time) *rejection {
	switch err := c.ValidateWithLeeway(jwt.Expected{Issuer: v.issuer, AnyAudience: v.audience, Time: now}, v.leeway); {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return errTokenIssuer
	case errors.Is(err, jwt.ErrInvalidAudience):
		return errTokenAudience
	case errors.Is(err, jwt.ErrExpired):
		return errTokenExpired
	case err != nil:
		return errTokenNotYetValid
	case c.Expiry == nil:
		return errTokenEndless
	case !now.Before(c.Expiry.Time().Add(v.leeway)): // "on or after", where the library says after
		return errTokenExpired
	}
	return nil
}

// text reads a claim that is text.
func text(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// isSubject reports whether a claim may name a caller in logs, limits and conversations.
func isSubject(s string) bool {
	return s != "" && len(s) <= maxSubject && !strings.ContainsFunc(s, func(r rune) bool {
		// Different damaged texts would become the same one.
		return r == utf8.RuneError || !unicode.IsPrint(r)
	})
}

// agentsOf reads the claim that lists agents. It is never nil: that would mean all of them.
func agentsOf(raw json.RawMessage) (agents []string, ok bool) {
	agents = []string{}
	if len(raw) == 0 || string(raw) == "null" {
		return agents, true
	}
	if s, ok := text(raw); ok {
		return append(agents, strings.Fields(s)...), true
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil, false
	}
	for _, item := range list {
		s, ok := text(item)
		if !ok {
			return nil, false
		}
		agents = append(agents, s)
	}
	return agents, true
}
