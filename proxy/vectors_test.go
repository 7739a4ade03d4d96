package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// vector is one raw request with its verdict. PATH in raw stands for the face's
// path, BODY for its body and LEN for the length of that. Behind it, in the same
// write, goes a request that must be answered only where nothing is in doubt.
type vector struct {
	name   string
	raw    string
	status int
	code   string // of a refusal
	closed bool
	// sent are the client's lines that reach the backend, for a request that passes.
	sent string
	// body is what the backend gets where that is not BODY.
	body string
	// cut says that the request does not end by itself, so that nothing goes behind it.
	cut bool
	// ends says that the client closes its side behind the request.
	ends bool
}

const (
	vectorBody = `{"model":"it","messages":[{"role":"user","content":"hello"}]}`
	probe      = "GET /livez HTTP/1.1\r\nHost: probe\r\n\r\n"
	smuggled   = "POST /v1/chat/completions HTTP/1.1\r\nHost: smuggled\r\nContent-Length: 61\r\n\r\n" + vectorBody
)

// lines makes a whole request of header lines behind Host, with a body.
func lines(l ...string) string { return with("BODY", append(l, "Content-Length: LEN")...) }

// with makes a request of header lines behind Host and what follows them.
func with(rest string, l ...string) string {
	return "POST PATH HTTP/1.1\r\nHost: proxy\r\n" + strings.Join(append(l, "", ""), "\r\n") + rest
}

// chunked is a request with a body in the chunked coding as given.
func chunked(body string) string { return with(body, "Transfer-Encoding: chunked") }

// target is a request for another target than PATH.
func target(t string) string {
	return "GET " + t + " HTTP/1.1\r\nHost: proxy\r\n\r\n"
}

func ok(name, raw, sent string) vector { return vector{name: name, raw: raw, status: 200, sent: sent} }

func refused(name, raw string, status int, code string) vector {
	return vector{name: name, raw: raw, status: status, code: code, closed: true}
}

// stays is a refusal of a request whose end is beyond doubt.
func stays(name, raw string, status int, code string) vector {
	return vector{name: name, raw: raw, status: status, code: code}
}

// broken is a refusal of what fasthttp cannot read.
func broken(name, raw string) vector { return refused(name, raw, 400, "bad_request") }

const halfChunk = "2\r\n{}\r\n0\r\n\r\n"

var vectors = []vector{
	// What is as it should be.
	ok("plain", lines(), ""),
	ok("chunked", chunked("3d\r\nBODY\r\n0\r\n\r\n"), ""),
	ok("chunked in three", chunked("1\r\n{\r\n"+"3b\r\n"+vectorBody[1:60]+"\r\n"+"1\r\n}\r\n0\r\n\r\n"), ""),
	ok("Chunked in another case", with("3d\r\nBODY\r\n0\r\n\r\n", "transfer-encoding: CHUNKED"), ""),
	ok("upper-case digits and leading zeros of a chunk", chunked("0003D\r\nBODY\r\n000\r\n\r\n"), ""),
	ok("a chunk extension", chunked("3d;a=b\r\nBODY\r\n0;last\r\n\r\n"), ""),
	ok("an extension in quotes", chunked("3d;a=\"b;c\"\r\nBODY\r\n0\r\n\r\n"), ""),
	ok("a length with leading zeros", with("BODY", "Content-Length: 00061"), ""),
	ok("tabs around a value", with("BODY", "Content-Length:\t61\t", "traceparent: \t00-1-2-01\t "), "traceparent: 00-1-2-01\r\n"),
	ok("no space behind the colon", with("BODY", "content-length:61", "traceparent:00-1-2-01"), "traceparent: 00-1-2-01\r\n"),
	ok("an empty value", lines("tracestate:", "baggage: "), "tracestate: \r\nbaggage: \r\n"),
	ok("a value beyond ASCII", lines("User-Agent: caf\xc3\xa9 \xff"), "User-Agent: caf\xc3\xa9 \xff\r\n"),
	ok("HTTP/1.0", "POST PATH HTTP/1.0\r\nContent-Length: LEN\r\n\r\nBODY", "").closes(),
	ok("HTTP/1.0 kept alive", "POST PATH HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: LEN\r\n\r\nBODY", ""),
	ok("Connection: close", lines("Connection: close"), "").closes(),
	ok("empty lines in front", "\r\n\r\n"+lines(), ""),
	ok("the request line ends in LF", strings.Replace(lines(), "HTTP/1.1\r\n", "HTTP/1.1\n", 1), ""),
	ok("expects 100-continue", lines("Expect: 100-continue"), "").continues(),
	ok("Expect in HTTP/1.0", "POST PATH HTTP/1.0\r\nExpect: 100-Continue\r\nContent-Length: LEN\r\n\r\nBODY", "").closes(),
	ok("TE", lines("TE: trailers", "Connection: TE"), ""),
	ok("an upgrade to h2c is not taken up", lines("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), ""),
	ok("an upgrade to a web socket is not taken up", lines("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"), ""),
	ok("many headers", lines(strings.TrimSuffix(strings.Repeat("X-Other: 1\r\n", 120), "\r\n")), ""),
	ok("a very long name", lines(strings.Repeat("x", 9000)+": 1", "x-stainless-"+strings.Repeat("y", 100)+": 1"), ""),
	ok("a host with a port", strings.Replace(lines(), "Host: proxy", "Host: a_b.example:8080", 1), ""),
	ok("an address as host", strings.Replace(lines(), "Host: proxy", "Host: [::1]:80", 1), ""),
	ok("a query", strings.Replace(lines(), "PATH", "PATH?api_key=secret&x=%zz\\", 1), ""),
	ok("identity", lines("Content-Encoding: identity"), ""),
	ok("JSON of another kind", lines("Content-Type: application/vnd.api+json"), ""),
	ok("JSON in UTF-8", lines(`content-type: Application/JSON ; Charset="UTF-8"; x=y`), ""),
	ok("JSON with a broken parameter", lines("Content-Type: application/json;"), ""),
	ok("an empty type", lines("Content-Type:"), ""),

	// Headers that are dropped.
	ok("an underscore", lines("X_Team: 1", "x-stainless_os: 1", "x-stainless-os_x: 1", "openai-x.y: 1", "openai_beta: 1", "trace_parent: 1"), ""),
	ok("other odd names", lines("X.Team: 1", "x~: 1", "!#$%&'*+^`|~: 1"), ""),
	ok("not on the list", lines("Cookie: a=b", "X-Custom: 1", "Referer: r", "Proxy-Connection: x", "Keep-Alive: 5", "Via: x", "Priority: u=1"), ""),
	ok("who the client is", lines("X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil", "Forwarded: for=1.1.1.1", "X-Real-IP: 1.1.1.1", "X_Forwarded_For: 1.1.1.1"), ""),
	ok("credentials", lines("Authorization: Bearer client-secret", "X-Api-Key: client-secret", "Proxy-Authorization: Basic eA==", "Api-Key: x", "X-Goog-Api-Key: x", "OpenAI-Api-Key: x"), ""),
	ok("a credential in disguise", lines("Authorization: Bearer client-secret", "X-Api-Key: other-secret", "baggage: k=client-secret", "openai-organization: other-secret", "tracestate: t=1"), "tracestate: t=1\r\n"),
	ok("nominated by Connection", lines("Connection: close, OpenAI-Beta", "connection:, ,traceparent ,", "OPENAI-BETA: 1", "Traceparent: 1", "Tracestate: 1"), "Tracestate: 1\r\n").closes(),
	ok("nominated behind", lines("OpenAI-Beta: 1", "X-B3-TraceId: 1", "x-b3-sampled: 1", "Connection: keep-alive", "Connection: x-b3-traceid,openai-beta"), "x-b3-sampled: 1\r\n"),
	ok("what is the proxy's own cannot be nominated", lines("Connection: host, content-length, content-type, x-request-id, accept"), ""),
	ok("forwarded", lines("User-Agent: sdk/1", "x-stainless-os: Linux", "OpenAI-Beta: a", "openai-beta: b", "Idempotency-Key: k", "Accept-Language: de"),
		"User-Agent: sdk/1\r\nx-stainless-os: Linux\r\nOpenAI-Beta: a\r\nopenai-beta: b\r\nIdempotency-Key: k\r\nAccept-Language: de\r\n"),

	// Where a body ends.
	refused("CL.TE", with("0\r\n\r\n"+smuggled, "Content-Length: LEN", "Transfer-Encoding: chunked"), 400, "ambiguous_length"),
	refused("TE.CL", with("5c\r\n"+smuggled+"\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 4"), 400, "ambiguous_length"),
	refused("CL: 0 and TE", with(smuggled, "Content-Length: 0", "Transfer-Encoding: chunked"), 400, "ambiguous_length"),
	broken("TE.TE", with(halfChunk, "Transfer-Encoding: chunked", "Transfer-Encoding: cow")),
	broken("TE twice", with(halfChunk, "Transfer-Encoding: chunked", "Transfer-encoding: chunked")),
	broken("chunked twice", with(halfChunk, "Transfer-Encoding: chunked, chunked")),
	broken("gzip, chunked", with(halfChunk, "Transfer-Encoding: gzip, chunked")),
	broken("chunked, identity", with(halfChunk, "Transfer-Encoding: chunked, identity")),
	refused("identity as coding", with(smuggled, "Transfer-Encoding: identity"), 400, "transfer_encoding"),
	refused("identity as coding, and a length", lines("Transfer-Encoding: identity"), 400, "transfer_encoding"),
	broken("xchunked", with(halfChunk, "Transfer-Encoding: xchunked")),
	broken("chunkedx", with(halfChunk, "Transfer-Encoding: chunkedx")),
	broken("chunked in quotes", with(halfChunk, `Transfer-Encoding: "chunked"`)),
	broken("chunked in single quotes", with(halfChunk, "Transfer-Encoding: 'chunked'")),
	broken("chunked behind a vertical tab", with(halfChunk, "Transfer-Encoding: \vchunked")),
	broken("chunked before a vertical tab", with(halfChunk, "Transfer-Encoding: chunked\v")),
	broken("chunked behind NUL", with(halfChunk, "Transfer-Encoding: \x00chunked")),
	broken("chunked with a parameter", with(halfChunk, "Transfer-Encoding: chunked;q=1")),
	broken("chunked with a comma", with(halfChunk, "Transfer-Encoding: chunked,")),
	broken("an empty coding", with(halfChunk, "Transfer-Encoding:")),
	broken("a no-break space", with(halfChunk, "Transfer-Encoding: \xa0chunked")),
	broken("Kelvin's k", with(halfChunk, "Transfer-Encoding: chun\u212aed")),
	broken("TE before a space", with(halfChunk, "Transfer-Encoding : chunked")),
	broken("TE before a tab", with(halfChunk, "Transfer-Encoding\t: chunked")),
	broken("TE behind a space", with(halfChunk, "X: y", " Transfer-Encoding: chunked")).but("header_folded"),
	refused("TE on a folded line", with(halfChunk, "Transfer-Encoding:", " chunked"), 400, "header_folded"),
	broken("TE and HTTP/1.0", "POST PATH HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"+halfChunk),
	refused("TE with an underscore", with(smuggled, "Transfer_Encoding: chunked"), 400, "header_alias"),
	refused("TE with a dot", with(smuggled, "Transfer.Encoding: chunked"), 400, "header_alias"),
	refused("a length with an underscore", lines("Content_Length: 5"), 400, "header_alias"),
	broken("two lengths", lines("Content-Length: 5")),
	broken("the same length twice", lines("Content-Length: LEN")),
	broken("a list of lengths", with("BODY", "Content-Length: LEN, LEN")),
	broken("a negative length", with("BODY", "Content-Length: -1")),
	broken("a length with a plus", with("BODY", "Content-Length: +61")),
	broken("a length in hexadecimal", with("BODY", "Content-Length: 0x3d")),
	broken("a length with a space within", with("BODY", "Content-Length: 6 1")),
	broken("a length with an underscore within", with("BODY", "Content-Length: 6_1")),
	broken("a length with a fraction", with("BODY", "Content-Length: 61.0")),
	broken("an empty length", with("BODY", "Content-Length:")),
	broken("a length that overflows", with("BODY", "Content-Length: 18446744073709551677")),
	broken("a length of Arabic digits", with("BODY", "Content-Length: \u0666\u0661")),
	refused("a length of many zeros", with("BODY", "Content-Length: 000000000000000000061"), 400, "content_length"),
	broken("a length before a space", with("BODY", "Content-Length : LEN")),
	refused("a folded length", with("BODY", "Content-Length:", "\tLEN"), 400, "header_folded"),
	refused("more than is allowed", with("{", "Content-Length: 99999999999"), 413, "request_too_large").open(),
	stays("nothing", with("", "Content-Length: 0"), 400, "missing_body"),
	stays("no length", with(""), 400, "missing_body"),

	// Chunks.
	refused("a chunk with a plus", chunked("+2\r\n{}\r\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("a chunk with a minus", chunked("-2\r\n{}\r\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("a chunk with 0x", chunked("0x2\r\n{}\r\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("a chunk behind a space", chunked(" 2\r\n{}\r\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("a chunk without a size", chunked("\r\n{}\r\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("a chunk that overflows", chunked("10000000000000002\r\n{}\r\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("a chunk of nearly everything", chunked("7fffffffffffffff\r\n{}\r\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("a chunk that ends in LF", chunked("2\n{}\r\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("a chunk that ends in CR", chunked("2\r{}\r\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("an extension that ends in LF", chunked("2;a\n{}\r\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("an extension with a bare CR", chunked("2;a\rb\r\n{}\r\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("data without its end", chunked("2\r\n{}0\r\n\r\n"), 400, "unreadable_body"),
	refused("data that ends in LF", chunked("2\r\n{}\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("data longer than its chunk", chunked("1\r\n{}\r\n0\r\n\r\n"), 400, "unreadable_body"),
	refused("the last chunk is missing", chunked("3d\r\nBODY\r\n"), 400, "unreadable_body").hangsUp(),
	refused("the end of the last chunk is missing", chunked("3d\r\nBODY\r\n0\r\n"), 400, "unreadable_body").hangsUp(),
	refused("the end of the body is missing", with(vectorBody[:60], "Content-Length: 61"), 400, "unreadable_body").hangsUp(),
	refused("a trailer", chunked("2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n"), 400, "trailers"),
	refused("a trailer that authenticates", chunked("2\r\n{}\r\n0\r\nX-Api-Key: 1\r\n\r\n"), 400, "trailers"),
	refused("a forbidden trailer", chunked("2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\n\r\n"), 400, "unreadable_body"),
	refused("an announced trailer", with(halfChunk, "Transfer-Encoding: chunked", "Trailer: X-Trailer"), 400, "trailers"),
	refused("an announced trailer and a length", lines("Trailer: X-Trailer"), 400, "trailers"),

	// Lines.
	refused("a folded line", lines("X-Other: 1", " 2"), 400, "header_folded"),
	refused("a folded line with a tab", lines("X-Other: 1", "\t2"), 400, "header_folded"),
	broken("a folded first line", "POST PATH HTTP/1.1\r\n Host: proxy\r\n\r\n"),
	broken("a space before the colon", lines("X-Other : 1")),
	refused("a space within a name", lines("X Other: 1"), 400, "header_name"),
	broken("no colon", lines("X-Other")),
	broken("no name", lines(": 1")),
	broken("NUL in a name", lines("X-Ot\x00her: 1")),
	broken("NUL in a value", lines("X-Other: a\x00b")),
	broken("a bell in a value", lines("X-Other: a\ab")),
	broken("DEL in a value", lines("X-Other: a\x7fb")),
	broken("a bare CR in a value", lines("X-Other: a\rX-Api-Key: b")),
	broken("two CR", lines("X-Other: a\r")),
	refused("a bare LF", lines("X-Other: a\nX-Other: b"), 400, "header_line"),
	refused("the head ends in LF LF", strings.Replace(lines(), "\r\n\r\nBODY", "\r\n\nBODY"+"\r\n\r\n", 1), 400, "header_line"),
	{name: "all lines end in LF", raw: strings.ReplaceAll(lines(), "\r\n", "\n"), status: 408, code: "request_timeout", closed: true, cut: true},
	broken("a name beyond ASCII", lines("X-\xc3\xa9: 1")),
	broken("a name in quotes", lines(`"X-Other": 1`)),
	broken("parentheses in a name", lines("X(Other): 1")),
	refused("a thousand headers", lines(strings.TrimSuffix(strings.Repeat("X-Other: 1\r\n", 1000), "\r\n")), 431, "too_many_headers"),
	refused("a head beyond the limit", lines("X-Other: "+strings.Repeat("x", 40<<10)), 431, "headers_too_large"),
	refused("an alias of a key", lines("X_Api_Key: x"), 400, "header_alias"),
	refused("an alias of a key, half", lines("X-Api_Key: x"), 400, "header_alias"),
	refused("an alias of Authorization's kin", lines("Proxy_Authorization: x"), 400, "header_alias"),
	refused("an alias of an option", lines("dragoman_strict: 0"), 400, "header_alias"),
	refused("an alias of the id", lines("X.Request.Id: 0"), 400, "header_alias"),

	// Once only.
	refused("two Authorizations", lines("Authorization: Bearer a", "authorization: Bearer a"), 400, "repeated_header"),
	refused("two keys", lines("X-Api-Key: a", "x-api-key: b"), 400, "repeated_header"),
	refused("two types", lines("Content-Type: application/json", "Content-Type: text/plain"), 400, "repeated_header"),
	refused("two wishes", lines("Dragoman-Strict: 0", "Dragoman-Strict: 1"), 400, "repeated_header"),
	broken("two hosts", lines("Host: other")),
	broken("no host", "POST PATH HTTP/1.1\r\nContent-Length: LEN\r\n\r\nBODY"),
	broken("an empty host", strings.Replace(lines(), "Host: proxy", "Host:", 1)),
	broken("a host with a path", strings.Replace(lines(), "Host: proxy", "Host: proxy/x", 1)),
	refused("a host with a user", strings.Replace(lines(), "Host: proxy", "Host: a@proxy", 1), 400, "host"),
	refused("two hosts in one", strings.Replace(lines(), "Host: proxy", "Host: a,b", 1), 400, "host"),
	broken("a host with a bad port", strings.Replace(lines(), "Host: proxy", "Host: proxy:80x", 1)),
	refused("a host with a high port", strings.Replace(lines(), "Host: proxy", "Host: proxy:123456", 1), 400, "host"),
	refused("a host beyond ASCII", strings.Replace(lines(), "Host: proxy", "Host: pr\xc3\xb6xy", 1), 400, "host"),

	// Request lines.
	refused("HTTP/2.0", "POST PATH HTTP/2.0\r\nHost: proxy\r\nContent-Length: LEN\r\n\r\nBODY", 400, "http_version"),
	refused("HTTP/0.9", "POST PATH HTTP/0.9\r\nHost: proxy\r\nContent-Length: LEN\r\n\r\nBODY", 400, "http_version"),
	refused("HTTP/1.2", "POST PATH HTTP/1.2\r\nHost: proxy\r\nContent-Length: LEN\r\n\r\nBODY", 400, "http_version"),
	broken("http/1.1", "POST PATH http/1.1\r\nHost: proxy\r\n\r\n"),
	broken("HTTP/1.10", "POST PATH HTTP/1.10\r\nHost: proxy\r\n\r\n"),
	broken("HTTP/11", "POST PATH HTTP/11\r\nHost: proxy\r\n\r\n"),
	broken("no version", "POST PATH\r\nHost: proxy\r\n\r\n"),
	broken("two spaces", "POST  PATH HTTP/1.1\r\nHost: proxy\r\n\r\n").anyWords(),
	broken("a tab", "POST\tPATH\tHTTP/1.1\r\nHost: proxy\r\n\r\n").anyWords(),
	broken("a space in the target", target("PATH x")),
	broken("a space behind the version", "POST PATH HTTP/1.1 \r\nHost: proxy\r\n\r\n"),
	broken("a space in front", " POST PATH HTTP/1.1\r\nHost: proxy\r\n\r\n").anyWords(),
	broken("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").anyWords(),
	broken("a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").anyWords(),
	broken("NUL in the method", "PO\x00ST PATH HTTP/1.1\r\nHost: proxy\r\n\r\n"),
	refused("CONNECT", "CONNECT PATH HTTP/1.1\r\nHost: proxy\r\n\r\n", 400, "method_refused"),
	refused("CONNECT to an authority", "CONNECT proxy:80 HTTP/1.1\r\nHost: proxy\r\n\r\n", 400, "method_refused").anyWords(),
	refused("TRACE", "TRACE PATH HTTP/1.1\r\nHost: proxy\r\n\r\n", 400, "method_refused"),
	stays("another method", "BREW PATH HTTP/1.1\r\nHost: proxy\r\n\r\n", 405, "method_not_allowed"),
	stays("a method in lower case", "post PATH HTTP/1.1\r\nHost: proxy\r\n\r\n", 405, "method_not_allowed"),
	refused("a whole URL", target("http://proxyPATH"), 400, "request_target").anyWords(),
	refused("a whole URL of another scheme", target("ftp://proxyPATH"), 400, "request_target").anyWords(),
	refused("an asterisk", "OPTIONS * HTTP/1.1\r\nHost: proxy\r\n\r\n", 400, "request_target").anyWords(),
	broken("no slash", target("v1/models")).anyWords(),
	refused("a fragment", target("PATH#x"), 400, "request_target"),
	refused("a fragment behind the query", target("PATH?x#y"), 400, "request_target"),
	refused("a backslash", target("PATH\\x"), 400, "request_target"),
	refused("bytes beyond ASCII", target("PATH/\xc3\xa9"), 400, "request_target"),
	broken("NUL in the target", target("PATH\x00")),
	broken("a bare CR in the target", target("PATH\rx")),
	refused("an encoded slash", target("/agents/it%2fv1PATH"), 400, "request_target"),
	refused("an encoded backslash", target("PATH%5Cx"), 400, "request_target"),
	refused("encoded dots", target("/v1/%2e%2E/livez"), 400, "request_target").anyWords(),
	refused("half-encoded dots", target("/v1/.%2e/livez"), 400, "request_target").anyWords(),
	refused("an encoded dot", target("/v1/%2e/models"), 400, "request_target").anyWords(),
	refused("an encoded NUL", target("PATH%00"), 400, "request_target"),
	refused("an encoded line break", target("PATH%0d%0aX:y"), 400, "request_target"),
	refused("an overlong slash", target("PATH%c0%af"), 400, "request_target"),
	refused("an invalid percent sequence", target("PATH%zz"), 400, "request_target"),
	refused("a cut percent sequence", target("PATH%2"), 400, "request_target"),
	stays("a letter encoded", target("/v1/%6Dodels"), 404, "unknown_url").anyWords(),
	stays("dots", target("/v1/../livez"), 404, "unknown_url").anyWords(),
	stays("a percent sign encoded twice", target("/agents/%252fPATH"), 405, "method_not_allowed"),
	refused("a long target", target("PATH?"+strings.Repeat("x", 9000)), 414, "request_target_too_long"),

	// Bodies where none belong.
	refused("GET with a body", "GET PATH HTTP/1.1\r\nHost: proxy\r\nContent-Length: 92\r\n\r\n"+smuggled, 400, "unexpected_body"),
	refused("GET in chunks", "GET PATH HTTP/1.1\r\nHost: proxy\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "unexpected_body"),
	refused("DELETE with a body", "DELETE PATH HTTP/1.1\r\nHost: proxy\r\nContent-Length: 2\r\n\r\n{}", 400, "unexpected_body"),
	refused("a body for /livez", "GET /livez HTTP/1.1\r\nHost: proxy\r\nContent-Length: 2\r\n\r\n{}", 400, "unexpected_body").anyWords(),
	stays("GET with an empty body", "GET PATH HTTP/1.1\r\nHost: proxy\r\nContent-Length: 0\r\n\r\n", 405, "method_not_allowed"),

	// Types and expectations.
	stays("gzip", lines("Content-Encoding: gzip"), 415, "unsupported_content_encoding"),
	stays("identity, then gzip", lines("Content-Encoding: identity", "Content-Encoding: br"), 415, "unsupported_content_encoding"),
	stays("a form, as curl -d has it", lines("Content-Type: application/x-www-form-urlencoded"), 415, "unsupported_media_type"),
	stays("plain text", lines("Content-Type: text/plain;charset=UTF-8"), 415, "unsupported_media_type"),
	stays("multipart", lines("Content-Type: multipart/form-data; boundary=x"), 415, "unsupported_media_type"),
	stays("JSON in Latin-1", lines("Content-Type: application/json; charset=iso-8859-1"), 415, "unsupported_media_type"),
	stays("JSON in UTF-16", lines("Content-Type: application/json; x=y; charset=utf-16"), 415, "unsupported_media_type"),
	stays("nearly JSON", lines("Content-Type: application/jsonx"), 415, "unsupported_media_type"),
	stays("a list of types", lines("Content-Type: application/json, text/plain"), 415, "unsupported_media_type"),
	stays("a type without a body", "GET PATH HTTP/1.1\r\nHost: proxy\r\nContent-Type: text/plain\r\n\r\n", 405, "method_not_allowed"),
	refused("another expectation", lines("Expect: 200-ok"), 417, "expectation_failed"),
	refused("two expectations", lines("Expect: 100-continue", "Expect: x"), 417, "expectation_failed"),
	refused("an empty expectation", lines("Expect:"), 417, "expectation_failed"),
}

func (v vector) closes() vector         { v.closed = true; return v }
func (v vector) hangsUp() vector        { v.cut, v.ends = true, true; return v }
func (v vector) open() vector           { v.cut = true; return v }
func (v vector) but(code string) vector { v.code = code; return v }
func (v vector) continues() vector      { v.body = "continue"; return v }
func (v vector) anyWords() vector       { v.sent = "any"; return v }

// recorder is a backend that keeps the raw bytes of every request and answers it.
type recorder struct {
	addr string
	got  chan string
}

func recordRaw(t *testing.T) *recorder {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &recorder{addr: ln.Addr().String(), got: make(chan string, 1000)}
	done := make(chan struct{})
	var conns []net.Conn
	go func() {
		defer close(done)
		var ends []chan struct{}
		for {
			c, err := ln.Accept()
			if err != nil {
				break
			}
			end := make(chan struct{})
			conns, ends = append(conns, c), append(ends, end)
			go func() {
				defer close(end)
				defer c.Close()
				b.serve(c)
			}()
		}
		for _, c := range conns {
			_ = c.Close()
		}
		for _, e := range ends {
			<-e
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return b
}

func (b *recorder) serve(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		var head strings.Builder
		length := 0
		for !strings.HasSuffix(head.String(), "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
			if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
				length, _ = strconv.Atoi(strings.TrimSpace(v))
			}
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		b.got <- head.String() + string(body)
		answer := chatScript().body
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
	}
}

// TestVectors sends every vector to three faces with errors of different shapes,
// and pins what becomes of it. What passes must be to the backend, byte for byte,
// what it was to us; what is refused must not reach it, nor what is behind it be
// served where it is in doubt where the request ends.
func TestVectors(t *testing.T) {
	t.Parallel()
	back := recordRaw(t)
	r := start(t, "server: {timeouts: {header: 2s, body: 2s}}\nagents:\n  - {name: it, aliases: ['*'], protocol: chat, url: http://"+back.addr+"}\n")
	if len(vectors) < 100 {
		t.Errorf("%d vectors", len(vectors))
	}
	type shape struct {
		path    string
		message string
	}
	shapes := []shape{{"/v1/chat/completions", "error.message"}, {"/api/client/v1/responses", "error"}, {"/v1/agent/completions", "detail"}}
	each := func(passes bool, f func(t *testing.T, v vector, raw, message string, coded bool)) func(*testing.T) {
		return func(t *testing.T) {
			for _, v := range vectors {
				if passes != (v.code == "") {
					continue
				}
				for i, s := range shapes {
					if i > 0 && passes {
						continue // it is compared where nothing is translated
					}
					raw := strings.NewReplacer("PATH", s.path, "BODY", vectorBody, "LEN", strconv.Itoa(len(vectorBody))).Replace(v.raw)
					message := s.message
					if v.sent == "any" {
						message = shapes[0].message
					}
					t.Run(v.name+" "+s.path, func(t *testing.T) { f(t, v, raw, message, i == 0) })
				}
			}
		}
	}
	t.Run("pass", each(true, func(t *testing.T, v vector, raw, message string, coded bool) {
		checkVector(t, r, back, v, raw, message, coded)
	}))
	t.Run("refused", each(false, func(t *testing.T, v vector, raw, message string, coded bool) {
		t.Parallel()
		checkVector(t, r, back, v, raw, message, coded)
	}))
	select {
	case got := <-back.got:
		t.Errorf("a refused request reached the backend: %q", got)
	default:
	}
}

func checkVector(t *testing.T, r *running, back *recorder, v vector, raw, message string, coded bool) {
	c := r.dial()
	c.t = t
	if !v.cut {
		raw += probe
	}
	// The answer may come, and the connection close, before all of it is written.
	go func() {
		_, _ = io.WriteString(c, raw)
		if v.ends {
			_ = c.Conn.(*net.TCPConn).CloseWrite()
		}
	}()
	if v.body == "continue" {
		if got := c.response(); got.StatusCode != 100 {
			t.Fatalf("status %d, want 100", got.StatusCode)
		}
	}
	resp := c.response()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := reply{resp.StatusCode, resp.Header, string(text)}
	if got.status != v.status {
		t.Fatalf("status %d, want %d: %s", got.status, v.status, got.body)
	}
	if got.header.Get("X-Request-Id") == "" {
		t.Error("no request id")
	}
	if v.code != "" {
		if got.header.Get("Content-Type") != "application/json" || gjson.Get(got.body, message).Type != gjson.String {
			t.Errorf("the words are not the face's: %s", got.body)
		}
		if code := gjson.Get(got.body, "error.code").String(); coded && code != v.code {
			t.Errorf("code %q, want %q: %s", code, v.code, got.body)
		}
	} else {
		body := v.body
		if body == "" || body == "continue" {
			body = vectorBody
		}
		want := "POST /v1/chat/completions HTTP/1.1\r\nHost: " + back.addr + "\r\nContent-Type: application/json\r\nAccept-Encoding: identity\r\n" +
			"Accept: application/json\r\nX-Request-Id: " + got.header.Get("X-Request-Id") + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n" +
			v.sent + "\r\n" + body
		if sent := <-back.got; sent != want {
			t.Errorf("the backend got\n%q, want\n%q", sent, want)
		}
	}
	if resp.Close != v.closed {
		t.Errorf("Connection: close %v, want %v", resp.Close, v.closed)
	}
	if v.closed {
		if rest, _ := io.ReadAll(c.r); len(rest) > 0 {
			t.Errorf("served behind what was refused: %q", rest)
		}
		return
	}
	if !v.cut {
		if next := c.reply(); next.status != 200 || next.body != "ok\n" {
			t.Errorf("the next request: %d %s", next.status, next.body)
		}
	}
}
