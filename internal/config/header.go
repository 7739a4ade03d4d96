package config

import (
	"strings"
	"unicode"
)

// ownedHeaders are written by Dragoman itself, or mean something to one connection only. Setting them would break the
// framing of a request (a smuggled one, at worst) or the translation of its body.
var ownedHeaders = map[string]string{
	"connection":          "belongs to one connection",
	"keep-alive":          "belongs to one connection",
	"proxy-authenticate":  "belongs to one connection",
	"proxy-authorization": "belongs to one connection",
	"proxy-connection":    "belongs to one connection",
	"te":                  "belongs to one connection",
	"trailer":             "belongs to one connection",
	"transfer-encoding":   "belongs to one connection",
	"upgrade":             "belongs to one connection",
	"expect":              "belongs to one connection",
	"host":                "is written from the url",
	"content-length":      "is written from the body",
	"content-type":        "is written from the protocol",
	"content-encoding":    "is written from the body",
	"accept":              "is written from the protocol",
	"accept-encoding":     "is always identity",
	"cookie":              "never goes on to a backend",
}

// checkHeaderName is what is wrong with the name of a header.
func checkHeaderName(name string) string {
	if name == "" || len(name) > 100 || strings.ContainsFunc(name, func(r rune) bool { return !isTokenChar(r) }) {
		return "is not the name of a header: write letters, digits and hyphens"
	}
	if why, owned := ownedHeaders[strings.ToLower(name)]; owned {
		return "is refused: it " + why
	}
	return ""
}

// isTokenChar is RFC 9110, section 5.6.2, without the star, which would look like a pattern.
func isTokenChar(r rune) bool {
	return r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("!#$%&'+-.^_`|~", r))
}

// headers reads headers that are added to requests.
func headers(to *[]Header) func(value) {
	return func(v value) {
		seen := make(map[string]bool)
		v.entries(func(name string, at value) {
			problem := checkHeaderName(name)
			switch lower := strings.ToLower(name); {
			case problem != "":
			case lower == "authorization":
				problem = "is refused here: write `credential`, which never prints"
			case seen[lower]:
				problem = "is written twice, in different case: leave one out"
			default:
				seen[lower] = true
			}
			if problem != "" {
				at.problem("%s", problem)
				return
			}
			text, ok := at.scalar("text")
			if !ok {
				return
			}
			if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f }) {
				at.problem("holds a line break, another control character, or one outside ASCII")
				return
			}
			*to = append(*to, Header{Name: name, Value: text})
		})
	}
}

// headerNames reads names of headers that go on, in lower case.
func headerNames(to *[]string) func(value) {
	return func(v value) {
		seen := make(map[string]bool)
		v.list("header names", func(_ int, at value) {
			name, ok := at.text("the name of a header")
			if !ok {
				return
			}
			name = strings.ToLower(name)
			problem := checkHeaderName(name)
			switch {
			case strings.Contains(name, "*"):
				problem = "is a pattern, which is not supported: write whole names"
			case problem != "":
			case name == "authorization" || name == "x-api-key" || name == "api-key" || name == "x-goog-api-key" || name == "openai-api-key":
				problem = "cannot go on: it is the client's credential for Dragoman, not for the backend"
			case name == "forwarded" || name == "x-real-ip" || strings.HasPrefix(name, "x-forwarded-"):
				problem = "cannot go on as the client wrote it: name the proxies in front in `server.trusted_proxies`, and X-Forwarded-For, -Proto and -Host are set"
			case seen[name]:
				problem = "is written twice: leave one out"
			}
			if problem != "" {
				at.problem("%s", problem)
				return
			}
			seen[name] = true
			*to = append(*to, name)
		})
	}
}
