package proxy

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestNobodyIsToldToGoOnInVain refuses clients that wait for 100 Continue by their
// head, at once and without it, and lets the others go on.
func TestNobodyIsToldToGoOnInVain(t *testing.T) {
	t.Parallel()
	r := start(t, authYAML("")+"server: {max_body: 1MiB}\nagents:\n  - {name: it, protocol: cycls, url: \"demo:cycls\"}\n")
	head := func(headers string, length int) *client {
		c := r.dial()
		fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n%sContent-Length: %d\r\n\r\n", headers, length)
		return c
	}
	for _, f := range []struct {
		name, headers string
		length        int
		status        int
	}{
		{"a stranger", "", 100, 401}, {"too much", bearer(goodKey), 2 << 20, 413}, {"compressed", bearer(goodKey) + "Content-Encoding: gzip\r\n", 100, 415},
	} {
		got := head(f.headers, f.length).reply()
		if got.status != f.status || !strings.Contains(got.body, `"error":{"message":"`) || got.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %d %v %s", f.name, got.status, got.header, got.body)
		}
		if f.status == 401 && got.header.Get("Www-Authenticate") == "" {
			t.Errorf("%s: %v", f.name, got.header)
		}
	}
	if line := r.waitLog(3); line["status"] != int64(415) || r.logs.FilterMessage("request").Len() != 3 {
		t.Errorf("logged %v", line)
	}
	c := head(bearer(goodKey), len(chatHello))
	if got := c.response(); got.StatusCode != 100 {
		t.Fatalf("%d", got.StatusCode)
	}
	_, _ = io.WriteString(c, chatHello)
	if got := c.reply(); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.waitLog(4)
}

// TestRefusedBodyDoesNotHideTheAnswer refuses large requests by their head: the
// client, which is still sending, gets the answer and no reset.
func TestRefusedBodyDoesNotHideTheAnswer(t *testing.T) {
	t.Parallel()
	r := start(t, authYAML("")+"server: {max_body: 1MiB}\nagents:\n  - {name: it, protocol: cycls, url: \"demo:cycls\"}\n", func(s *Server) {
		s.lingers = longest // however slowly this client gets to run
	})
	for _, f := range []struct {
		name, headers string
		size          int
		status        int
	}{
		{"a stranger's", "", 6 << 20, 401},
		{"a stranger's, small", "", 100, 401},
		{"too large", bearer(goodKey), 6 << 20, 413},
		{"compressed", bearer(goodKey) + "Content-Encoding: gzip\r\n", 6 << 20, 415},
		{"of an endless head", bearer(goodKey) + "X-Long: " + strings.Repeat("a", 200<<10) + "\r\n", 6 << 20, 431},
	} {
		for range 5 { // a reset is a race, which the client does not always lose
			c := r.dial()
			body := strings.Repeat(" ", f.size)
			fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n", f.headers, len(body))
			for len(body) > 0 {
				n, err := c.Write([]byte(body[:min(len(body), 64<<10)]))
				if err != nil {
					t.Errorf("%s: sending failed: %v", f.name, err)
					break
				}
				body = body[n:]
			}
			if got := c.reply(); got.status != f.status {
				t.Errorf("%s: %d %s, want %d", f.name, got.status, got.body, f.status)
			}
		}
	}
}
