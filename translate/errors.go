package translate

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// ErrorKind says whose fault an error is, in words that every protocol has.
type ErrorKind uint8

// The kinds of errors.
const (
	KindInvalid ErrorKind = iota // the request is wrong
	KindUnauthenticated
	KindForbidden
	KindNotFound
	KindConflict
	KindTooLarge
	KindUnsupportedMedia
	KindRateLimited
	KindOverloaded // we or the backend cannot take it now
	KindTimeout
	KindBackend  // the backend failed
	KindInternal // we failed
	KindClosed   // the client left; nobody reads it
)

// Error is the one error of this project. Message goes to the client, Cause to
// the log: they are never mixed.
type Error struct {
	Kind    ErrorKind
	Status  int    // HTTP status
	Code    string // machine-readable, as OpenAI spells them: model_not_found
	Param   string // path of the field at fault
	Message string
	// RetryAfter is how long the client should wait; 0 if nobody said.
	RetryAfter time.Duration
	// NoRetry says that the agent may have run: x-should-retry: false.
	NoRetry bool
	// Cause is what happened, for the log. It never holds words of a body.
	Cause error

	unreadable bool   // what could not be read must not be passed through
	log        string // for the log, where Message may repeat words of the client's or of the agent's
}

// Error is the text for the log.
func (e *Error) Error() string {
	if e.log != "" {
		return e.log
	}
	if e.Cause != nil {
		return strings.TrimSuffix(e.Message, ".") + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Type is the error's type as the OpenAI APIs name it.
func (e *Error) Type() string {
	switch e.Kind {
	case KindUnauthenticated:
		return "authentication_error"
	case KindForbidden:
		return "permission_error"
	case KindRateLimited:
		return "rate_limit_error"
	case KindOverloaded, KindTimeout, KindBackend, KindInternal, KindClosed:
		return "server_error"
	}
	return "invalid_request_error"
}

// Invalid is a 400 that names the field.
func Invalid(at Path, format string, args ...any) *Error {
	return &Error{Kind: KindInvalid, Status: 400, Code: "invalid_value", Param: at.String(), Message: fmt.Sprintf(format, args...)}
}

// Unsupported is the 400 for a field that the backend cannot honour and that
// would change the meaning of the request if it were left out.
func Unsupported(at Path, a *Agent, backend string) *Error {
	p := at.String()
	return &Error{
		Kind: KindInvalid, Status: 400, Code: "unsupported_parameter", Param: p,
		Message: fmt.Sprintf("'%s' is not supported: agent %q speaks the %s protocol, which has no such thing.", p, a.Name, backend),
	}
}

// Truncated is the failure of a stream that ended without its protocol's
// terminal event.
func Truncated(cause error) *Error {
	return &Error{Kind: KindBackend, Status: 502, Code: "stream_truncated", NoRetry: true, Cause: cause,
		Message: "The agent's answer broke off before its end."}
}

// Unreadable is the failure of an answer that is not what its protocol says.
func Unreadable(cause error) *Error {
	return &Error{Kind: KindBackend, Status: 502, Code: "bad_gateway", NoRetry: true, Cause: cause,
		Message: "The agent's answer could not be read.", unreadable: true}
}

// InBand makes the failure that a backend told inside an answer: a stream's
// error event, or a body that says so under a status of success. message may
// be empty. An in-band status, 0 if there is none, is mapped like an HTTP
// status. Code and message are copied: an error outlives the event that told
// it.
func InBand(status int, code, message string) *Error {
	code = clone(cleanMessage(code))
	e := &Error{Kind: KindBackend, Status: 502, Code: code, NoRetry: true}
	if status >= 400 {
		e = statusError(status, true)
		e.Code = firstOf(code, e.Code)
	}
	if status < 401 || status > 403 { // those are about the proxy's own credential
		e.Message = clone(cleanMessage(message))
		if e.log = "The agent reported an error in its answer."; e.Message == "" {
			e.Message = "The agent reported an error."
		}
	}
	if e.Code == "" {
		e.Code = "agent_error"
	}
	return e
}

// BackendStatus maps a backend's HTTP error to ours. own says that the body is
// an error of the backend's own protocol (ParseErrorBody), which tells a 404
// of the agent from one of a wrong path. forward says that the client's own
// credential went to the backend, so that a 401 or 403 is the client's to see.
// The answer is always an error: a status of success or redirection, which the
// caller could not use, is a bad gateway.
func BackendStatus(status int, body *ErrorBody, retryAfter time.Duration, forward bool) *Error {
	if body != nil && status == 500 {
		if inner, message := innerStatus(body.Message); inner != 0 {
			told := *body
			told.Message = message
			e := BackendStatus(inner, &told, retryAfter, forward)
			e.NoRetry = true // what it refused, and when, is not known
			return e
		}
	}
	own := body != nil && body.Own
	var e *Error
	if forward && (status == 401 || status == 403) {
		e = &Error{Kind: KindUnauthenticated, Status: status, Code: "invalid_api_key", NoRetry: true}
		if status == 403 {
			e.Kind, e.Code = KindForbidden, "forbidden"
		}
		e.Message = "The agent refused the credential."
	} else {
		e = statusError(status, own)
	}
	shown := false
	switch status {
	case 400, 409, 413, 422, 429:
		shown = true
	case 404:
		shown = own
	case 401, 403:
		shown = forward
	}
	if body != nil && shown {
		if m := cleanMessage(body.Message); m != "" {
			e.Message, e.log = m, fmt.Sprintf("The agent said why: backend answered %d", status)
		}
		e.Code = firstOf(body.Code, e.Code)
		e.Param = body.Param
	}
	e.RetryAfter = retryAfter
	e.Cause = fmt.Errorf("backend answered %d", status)
	return e
}

// innerStatus splits a message like "400: Agent name is required", which FastAPI
// servers that catch their own HTTPException tell under a 500. The status is 0
// and the message whole if it has no such form.
func innerStatus(message string) (int, string) {
	if word, rest, ok := strings.Cut(message, ": "); ok && len(word) == 3 {
		if n, err := strconv.Atoi(word); err == nil && n >= 400 && n < 600 {
			return n, rest
		}
	}
	return 0, message
}

func statusError(status int, own bool) *Error {
	switch {
	case status == 400 || status == 422:
		return &Error{Kind: KindInvalid, Status: 400, Code: "invalid_request", NoRetry: true, Message: "The agent refused the request."}
	case status == 401 || status == 402 || status == 403:
		return &Error{Kind: KindBackend, Status: 502, Code: "bad_gateway", NoRetry: true,
			Message: "The proxy's credential for the agent was refused; this is for the operator to mend."}
	case status == 404 && own:
		return &Error{Kind: KindNotFound, Status: 404, Code: "not_found", NoRetry: true, Message: "The agent does not know what was asked for."}
	case status == 404 || status == 405:
		return &Error{Kind: KindBackend, Status: 502, Code: "bad_gateway", NoRetry: true,
			Message: "The agent does not serve this path; this is for the operator to mend."}
	case status == 408 || status == 504:
		return &Error{Kind: KindTimeout, Status: 504, Code: "timeout", NoRetry: true, Message: "The agent did not answer in time."}
	case status == 409:
		return &Error{Kind: KindConflict, Status: 409, Code: "conflict", Message: "The agent is busy with this conversation."}
	case status == 413:
		return &Error{Kind: KindTooLarge, Status: 413, Code: "request_too_large", NoRetry: true, Message: "The request is too large for the agent."}
	case status == 429:
		return &Error{Kind: KindRateLimited, Status: 429, Code: "rate_limit_exceeded", Message: "The agent's rate limit is reached."}
	case status == 503 || status == 529:
		return &Error{Kind: KindOverloaded, Status: 503, Code: "overloaded", Message: "The agent is not available now."}
	case status >= 400 && status < 500:
		return &Error{Kind: KindBackend, Status: 502, Code: "bad_gateway", NoRetry: true, Message: "The agent refused the proxy's request."}
	}
	return &Error{Kind: KindBackend, Status: 502, Code: "bad_gateway", NoRetry: true, Message: "The agent failed."}
}

// ErrorBody is what could be read of a backend's error body.
type ErrorBody struct {
	Message string
	Code    string
	Param   string
	// Own says that it is an error that an agent's protocol would write, and
	// not the bare page of a web server or framework that knows no such path.
	Own bool
}

// ParseErrorBody reads the error body of any of the protocols, all of which
// occur behind any of them: {"error":{"message":…}}, {"error":"…"},
// {"detail":…}, {"message":…}, else plain text. HTML gives no message.
func ParseErrorBody(contentType string, body []byte) *ErrorBody {
	b := &ErrorBody{}
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) == 0 {
		return b
	}
	if trimmed[0] != '{' && trimmed[0] != '[' || !jsonx.Valid(trimmed) {
		if !strings.Contains(contentType, "html") && trimmed[0] != '<' && len(trimmed) <= 1024 {
			b.Message = string(trimmed)
		}
		return b
	}
	doc := gjson.ParseBytes(trimmed)
	if doc.IsArray() { // some vendors wrap the error object in an array
		doc = doc.Get("0")
	}
	e := doc.Get("error")
	switch {
	case e.IsObject():
		b.Message = firstOf(e.Get("message").String(), e.Get("detail").String())
		b.Code = firstOf(scalar(e.Get("code")), scalar(e.Get("type")))
		b.Param = scalar(e.Get("param"))
	case e.Type == gjson.String:
		b.Message = firstOf(doc.Get("detail").String(), e.String())
		if m := doc.Get("message").String(); m != "" {
			b.Message = e.String() + ": " + m
		}
		if !strings.Contains(e.String(), " ") {
			b.Code = e.String()
		}
	default:
		d := doc.Get("detail")
		switch {
		case d.Type == gjson.String:
			b.Message = d.String()
		case d.IsArray(): // FastAPI's validation errors
			d.ForEach(func(_, v gjson.Result) bool {
				if b.Message != "" {
					b.Message += "; "
				}
				loc := ""
				v.Get("loc").ForEach(func(_, l gjson.Result) bool {
					if loc != "" {
						loc += "."
					}
					loc += l.String()
					return true
				})
				b.Message += loc + ": " + v.Get("msg").String()
				return len(b.Message) < 1024
			})
		case d.Exists():
			b.Message = d.Raw
		default:
			b.Message = doc.Get("message").String()
		}
	}
	switch b.Message {
	case "", "Not Found", "Not found", "not found", "404 page not found", "Method Not Allowed":
	default:
		b.Own = true
	}
	return b
}

func scalar(r gjson.Result) string {
	if r.Type == gjson.String || r.Type == gjson.Number {
		return r.String()
	}
	return ""
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// cleanMessage makes a foreign text fit to be shown: valid UTF-8, no control
// characters, 1 KiB at most.
func cleanMessage(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if len(s) > 1024 {
		s = s[:1024]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return s
}

// appendOpenAIError writes {"error":{message,type,param,code}}, which several
// protocols share.
func appendOpenAIError(dst []byte, e *Error) []byte {
	dst = append(dst, `{"error":`...)
	dst = appendErrorObject(dst, e)
	return append(dst, '}')
}

func appendErrorObject(dst []byte, e *Error) []byte {
	dst = append(dst, `{"message":`...)
	dst = jsonx.AppendStringS(dst, e.ClientMessage())
	dst = append(dst, `,"type":"`...)
	dst = append(dst, e.Type()...)
	dst = append(dst, `","param":`...)
	dst = appendNullable(dst, e.Param)
	dst = append(dst, `,"code":`...)
	dst = appendNullable(dst, e.Code)
	return append(dst, '}')
}

// ClientMessage is the message with the wait in it, where there is one: some
// clients show nothing else.
func (e *Error) ClientMessage() string {
	if e.RetryAfter <= 0 {
		return e.Message
	}
	s := int64((e.RetryAfter + time.Second - 1) / time.Second)
	m := e.Message
	if m != "" && !strings.ContainsRune(".!?", rune(m[len(m)-1])) {
		m += "."
	}
	return m + " Retry after " + strconv.FormatInt(s, 10) + " s."
}

// appendNullable writes a string, or null for "".
func appendNullable(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return jsonx.AppendStringS(dst, s)
}
