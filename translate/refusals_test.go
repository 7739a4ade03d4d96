package translate

import (
	"testing"
	"time"
)

// Every face tells what the proxy itself refuses in the words of its protocol's
// own server.
func TestRefusalsInEachFacesWords(t *testing.T) {
	t.Parallel()
	openAI := func(message, typ, param, code string) string {
		return `{"error":{"message":"` + message + `","type":"` + typ + `","param":` + param + `,"code":"` + code + `"}}`
	}
	for _, c := range []struct {
		e                       Error
		openAI, cognipeer, bare string
		cycls                   string // if it is not bare
	}{
		{
			e:         Error{Kind: KindUnauthenticated, Status: 401, Code: "invalid_api_key", Message: "No."},
			openAI:    openAI("No.", "authentication_error", "null", "invalid_api_key"),
			cognipeer: `{"error":"Unauthorized","message":"No."}`, bare: `{"detail":"No."}`, cycls: `{"detail":"Not authenticated"}`,
		}, { // an agent's, where the client's credential goes to it
			e:         Error{Kind: KindUnauthenticated, Status: 401, Code: "invalid_api_key", NoRetry: true, Message: "Token expired"},
			openAI:    openAI("Token expired", "authentication_error", "null", "invalid_api_key"),
			cognipeer: `{"error":"Token expired"}`, bare: `{"detail":"Token expired"}`,
		}, {
			e:         Error{Kind: KindForbidden, Status: 403, Code: "forbidden", Message: "No."},
			openAI:    openAI("No.", "permission_error", "null", "forbidden"),
			cognipeer: `{"error":"Forbidden: No."}`, bare: `{"detail":"No."}`,
		}, {
			e:         Error{Kind: KindNotFound, Status: 404, Code: "model_not_found", Param: "model", Message: "There is none."},
			openAI:    openAI("There is none.", "invalid_request_error", `"model"`, "model_not_found"),
			cognipeer: `{"error":"Agent not found"}`, bare: `{"detail":"There is none."}`,
		}, {
			e:         Error{Kind: KindTooLarge, Status: 413, Code: "request_too_large", Message: "Too large."},
			openAI:    openAI("Too large.", "invalid_request_error", "null", "request_too_large"),
			cognipeer: `{"error":"Too large."}`, bare: `{"detail":"Too large."}`,
		}, {
			e:         Error{Kind: KindUnsupportedMedia, Status: 415, Code: "unsupported_media_type", Message: "No such type."},
			openAI:    openAI("No such type.", "invalid_request_error", "null", "unsupported_media_type"),
			cognipeer: `{"error":"No such type."}`, bare: `{"detail":"No such type."}`,
		}, {
			e:         Error{Kind: KindRateLimited, Status: 429, Code: "rate_limit_exceeded", Message: "Slow down.", RetryAfter: 1200 * time.Millisecond},
			openAI:    openAI("Slow down. Retry after 2 s.", "rate_limit_error", "null", "rate_limit_exceeded"),
			cognipeer: `{"error":"Slow down. Retry after 2 s."}`, bare: `{"detail":"Slow down. Retry after 2 s."}`,
		}, {
			e:         Error{Kind: KindOverloaded, Status: 503, Code: "overloaded", Message: "Busy.", RetryAfter: time.Second},
			openAI:    openAI("Busy. Retry after 1 s.", "server_error", "null", "overloaded"),
			cognipeer: `{"error":"ServiceUnavailable","message":"Busy. Retry after 1 s."}`, bare: `{"detail":"Busy. Retry after 1 s."}`,
		},
	} {
		for _, p := range Protocols() {
			want := map[string]string{"cognipeer": c.cognipeer, "swarms": c.bare, "cycls": firstOf(c.cycls, c.bare)}[p.Name]
			if want == "" {
				want = c.openAI
			}
			if got := string(p.AppendError([]byte("^"), &c.e)); got != "^"+want {
				t.Errorf("%s, %d: got %s, want %s", p.Name, c.e.Status, got, want)
			}
		}
	}
}
