package translate

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// The table of statuses, whole: every status that a backend can answer
// with, with a body of its protocol and with a bare page.
func TestBackendStatus(t *testing.T) {
	t.Parallel()
	own := &ErrorBody{Message: "their words", Code: "their_code", Param: "their.param", Own: true}
	for status := 100; status < 620; status++ {
		want, shown, retry := 502, false, false
		switch status {
		case 400, 422:
			want, shown = 400, true
		case 404:
			want, shown = 404, true
		case 408, 504:
			want = 504
		case 409:
			want, shown, retry = 409, true, true
		case 413:
			want, shown = 413, true
		case 429:
			want, shown, retry = 429, true, true
		case 503, 529:
			want, retry = 503, true
		}
		e := BackendStatus(status, own, 3*time.Second, false)
		if e.Status != want {
			t.Errorf("%d: got %d, want %d", status, e.Status, want)
		}
		if got := e.Message == own.Message; got != shown {
			t.Errorf("%d: message %q, shown is to be %v", status, e.Message, shown)
		}
		if shown && (e.Code != own.Code || e.Param != own.Param) {
			t.Errorf("%d: code %q param %q, want the backend's", status, e.Code, e.Param)
		}
		if !shown && (e.Code == own.Code || e.Param != "") {
			t.Errorf("%d: code %q param %q, want our own", status, e.Code, e.Param)
		}
		if e.NoRetry == retry {
			t.Errorf("%d: no retry is %v", status, e.NoRetry)
		}
		if e.RetryAfter != 3*time.Second {
			t.Errorf("%d: retry-after %v is not carried", status, e.RetryAfter)
		}
		// A backend may repeat the request in its words: they are no line of a log.
		if e.Message == "" || e.Code == "" || strings.Contains(e.Error(), "their words") || !strings.Contains(e.Error(), fmt.Sprint(status)) {
			t.Errorf("%d: message %q code %q log %q", status, e.Message, e.Code, e.Error())
		}
		if status == 404 || status == 405 {
			for name, body := range map[string]*ErrorBody{"bare": {Message: "Not Found"}, "none": nil} {
				if e := BackendStatus(status, body, 0, false); e.Status != 502 || !e.NoRetry || e.Kind != KindBackend {
					t.Errorf("%d, %s: got %d %v, want 502: the path is wrong", status, name, e.Status, e.Kind)
				}
			}
		}
	}
}

func TestBackendStatusKinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		kind   ErrorKind
		typ    string
	}{
		{400, KindInvalid, "invalid_request_error"},
		{404, KindNotFound, "invalid_request_error"},
		{409, KindConflict, "invalid_request_error"},
		{413, KindTooLarge, "invalid_request_error"},
		{422, KindInvalid, "invalid_request_error"},
		{429, KindRateLimited, "rate_limit_error"},
		{401, KindBackend, "server_error"},
		{402, KindBackend, "server_error"},
		{403, KindBackend, "server_error"},
		{408, KindTimeout, "server_error"},
		{418, KindBackend, "server_error"},
		{500, KindBackend, "server_error"},
		{501, KindBackend, "server_error"},
		{503, KindOverloaded, "server_error"},
		{504, KindTimeout, "server_error"},
		{529, KindOverloaded, "server_error"},
		{302, KindBackend, "server_error"},
		{200, KindBackend, "server_error"},
	} {
		e := BackendStatus(c.status, &ErrorBody{Message: "m", Own: true}, 0, false)
		if e.Kind != c.kind || e.Type() != c.typ {
			t.Errorf("%d: got %v %s, want %v %s", c.status, e.Kind, e.Type(), c.kind, c.typ)
		}
	}
}

// Under credential: forward a refused credential is the client's.
func TestBackendStatusForward(t *testing.T) {
	t.Parallel()
	body := &ErrorBody{Message: "bad key", Own: true}
	for status, want := range map[int]int{401: 401, 402: 502, 403: 403} {
		e := BackendStatus(status, body, 0, true)
		if e.Status != want {
			t.Errorf("%d forwarded: got %d, want %d", status, e.Status, want)
		}
		if shown := e.Message == "bad key"; shown != (want != 502) {
			t.Errorf("%d forwarded: message %q", status, e.Message)
		}
		e = BackendStatus(status, body, 0, false)
		if e.Status != 502 || strings.Contains(e.Message, "bad key") {
			t.Errorf("%d: got %d %q: it is the proxy's own credential", status, e.Status, e.Message)
		}
	}
	if e := BackendStatus(401, nil, 0, true); e.Type() != "authentication_error" || !e.NoRetry {
		t.Errorf("401: %s, no retry %v", e.Type(), e.NoRetry)
	}
	if e := BackendStatus(403, nil, 0, true); e.Type() != "permission_error" || !e.NoRetry {
		t.Errorf("403: %s, no retry %v", e.Type(), e.NoRetry)
	}
}

func TestParseErrorBody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, contentType, body string
		want                    ErrorBody
	}{
		{"OpenAI", "", `{"error":{"message":"m","type":"t","param":"p","code":"c"}}`, ErrorBody{"m", "c", "p", true}},
		{"OpenAI, nulls", "", `{"error":{"message":"m","type":"t","param":null,"code":null}}`, ErrorBody{"m", "t", "", true}},
		{"code as a number", "", `{"error":{"message":"m","code":429}}`, ErrorBody{"m", "429", "", true}},
		{"in an array", "", `[{"error":{"message":"m"}}]`, ErrorBody{"m", "", "", true}},
		{"Cognipeer", "", `{"error":"Agent not found"}`, ErrorBody{"Agent not found", "", "", true}},
		{"Cognipeer with a message", "", `{"error":"Unauthorized","message":"Missing header."}`, ErrorBody{"Unauthorized: Missing header.", "Unauthorized", "", true}},
		{"Cycls, busy", "", `{"error":"run_in_progress","chat_id":"c9","detail":"This chat is still working."}`, ErrorBody{"This chat is still working.", "run_in_progress", "", true}},
		{"Swarms", "", `{"detail":"Agent name is required"}`, ErrorBody{"Agent name is required", "", "", true}},
		{"Swarms, premium", "", `{"error":{"type":"premium_access_required","message":"Premium subscription required","detail":"d","status_code":403}}`,
			ErrorBody{"Premium subscription required", "premium_access_required", "", true}},
		{"FastAPI validation", "", `{"detail":[{"loc":["body","messages",0],"msg":"Field required","type":"missing"},{"loc":["query"],"msg":"x"}]}`,
			ErrorBody{"body.messages.0: Field required; query: x", "", "", true}},
		{"detail is an object", "", `{"detail":{"a":1}}`, ErrorBody{`{"a":1}`, "", "", true}},
		{"only a message", "", `{"message":"m"}`, ErrorBody{"m", "", "", true}},
		{"bare Not Found", "", `{"detail":"Not Found"}`, ErrorBody{"Not Found", "", "", false}},
		{"bare Method Not Allowed", "", `{"detail":"Method Not Allowed"}`, ErrorBody{"Method Not Allowed", "", "", false}},
		{"Go's own 404", "text/plain", "404 page not found\n", ErrorBody{"404 page not found", "", "", false}},
		{"plain text", "text/plain", "Internal Server Error", ErrorBody{"Internal Server Error", "", "", false}},
		{"HTML by its type", "text/html", "Bad Gateway", ErrorBody{}},
		{"HTML by its look", "", "<html>Bad Gateway</html>", ErrorBody{}},
		{"broken JSON", "application/json", `{"error":{"message":"m"`, ErrorBody{Message: `{"error":{"message":"m"`}},
		{"nothing", "", " \n", ErrorBody{}},
		{"empty object", "", "{}", ErrorBody{}},
		{"error is null", "", `{"error":null,"detail":"d"}`, ErrorBody{"d", "", "", true}},
		{"long text", "", strings.Repeat("x", 2000), ErrorBody{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := *ParseErrorBody(c.contentType, []byte(c.body)); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestCleanMessage(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{"", ""},
		{" a\r\nb\tc\x00\x1b[31m\u0085\u2028 ", "a  b c  [31m"},
		{"a\xffb", "a\uFFFDb"},
		{"näh", "näh"},
	} {
		if got := cleanMessage(c[0]); got != c[1] {
			t.Errorf("%q: got %q, want %q", c[0], got, c[1])
		}
	}
	for _, unit := range []string{"x", "ü", "€", "😀"} {
		for pad := range 4 {
			got := cleanMessage(strings.Repeat("y", pad) + strings.Repeat(unit, 2000))
			if len(got) > 1024 || len(got) < 1020 || !utf8.ValidString(got) {
				t.Errorf("%s: %d bytes, valid %v", unit, len(got), utf8.ValidString(got))
			}
		}
	}
}

func TestInBand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status        int
		code, message string
		want          Error
	}{
		{0, "", "", Error{Status: 502, Code: "agent_error", Message: "The agent reported an error."}},
		{0, "server_error", "it broke\n", Error{Status: 502, Code: "server_error", Message: "it broke"}},
		{429, "", "slow down", Error{Status: 429, Code: "rate_limit_exceeded", Message: "slow down"}},
		{400, "bad", "", Error{Status: 400, Code: "bad", Message: "The agent reported an error."}},
		{401, "", "key", Error{Status: 502, Code: "bad_gateway", Message: "The proxy's credential for the agent was refused; this is for the operator to mend."}},
		{200, "", "odd", Error{Status: 502, Code: "agent_error", Message: "odd"}},
	} {
		e := InBand(c.status, c.code, c.message)
		if e.Status != c.want.Status || e.Code != c.want.Code || e.Message != c.want.Message {
			t.Errorf("InBand(%d, %q, %q) = %d %q %q", c.status, c.code, c.message, e.Status, e.Code, e.Message)
		}
		if c.status != 429 && !e.NoRetry {
			t.Errorf("InBand(%d, %q, %q) may be retried, but the agent has run", c.status, c.code, c.message)
		}
	}
}

func TestOurErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("reset by peer")
	for _, e := range []*Error{Truncated(cause), Unreadable(cause)} {
		if e.Status != 502 || !e.NoRetry || !errors.Is(e, cause) || strings.Contains(e.Message, "reset") || !strings.Contains(e.Error(), "reset") {
			t.Errorf("%+v", e)
		}
	}
	e := Invalid(AtIndex("messages", 2).Sub("role", -1), "%q is no role", "x")
	if e.Status != 400 || e.Param != "messages[2].role" || e.Message != `"x" is no role` {
		t.Errorf("%+v", e)
	}
	e = Unsupported(At("n"), &Agent{Name: "support"}, "cycls")
	if e.Status != 400 || e.Param != "n" || !strings.Contains(e.Message, "'n'") || !strings.Contains(e.Message, "support") || !strings.Contains(e.Message, "cycls") {
		t.Errorf("%+v", e)
	}
}

func TestOpenAIErrorBody(t *testing.T) {
	t.Parallel()
	e := &Error{Kind: KindRateLimited, Message: "Slow \"down\".", Code: "rate_limit_exceeded", RetryAfter: 1500 * time.Millisecond}
	want := `{"error":{"message":"Slow \"down\". Retry after 2 s.","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}`
	if got := string(appendOpenAIError(nil, e)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	e = &Error{Kind: KindInvalid, Message: "m", Param: "a[0]"}
	want = `{"error":{"message":"m","type":"invalid_request_error","param":"a[0]","code":null}}`
	if got := string(appendOpenAIError(nil, e)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
