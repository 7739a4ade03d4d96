package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestOrderReachesTheBackend(t *testing.T) {
	want := order{events: 60, every: time.Second, first: 250 * time.Millisecond, pad: 7, cut: 3}
	for name, f := range crowdFaces {
		got, err := readOrder(f.request("it", want))
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
	}
	if _, err := readOrder([]byte("{}")); err == nil {
		t.Error("a request without an order was read")
	}
}

// TestFollowSeesWhatIsMissing gives a client whole and broken answers, a byte at a time.
func TestFollowSeesWhatIsMissing(t *testing.T) {
	f := crowdFaces["chat"]
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	event := func(n int) string {
		return chunk("data: {\"choices\":[{\"delta\":{\"content\":\"" + string(appendMark(nil, n)) + "\"}}]}\n\n")
	}
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	done := chunk("data: [DO") + chunk("NE]\n\n") + "0\r\n\r\n"
	body := "data: {\"content\":\"@0:1@\"}\n" + "data: [DONE]\n"
	cases := []struct {
		name, answer string
		events       int
		ok           bool
	}{
		{"whole", head + event(0) + event(1) + event(2) + done, 3, true},
		{"in one chunk", head + chunk("data: \"content\":\"@0:1@ @1:2@ \"\n\n") + done, 2, true},
		{"with a length", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body), 1, true},
		{"one is missing", head + event(0) + event(2) + done, 3, false},
		{"one is missing at the end", head + event(0) + event(1) + done, 3, false},
		{"one comes twice", head + event(0) + event(0) + event(1) + done, 2, false},
		{"no terminal event", head + event(0) + "0\r\n\r\n", 1, false},
		{"broken off", head + event(0), 1, false},
		{"a failure", head + event(0) + chunk("data: {\"error\":{}}\n\n") + done, 1, false},
		{"not a success", "HTTP/1.1 502 \r\n\r\n", 1, false},
	}
	for _, c := range cases {
		for _, r := range []io.Reader{strings.NewReader(c.answer), iotest.OneByteReader(strings.NewReader(c.answer))} {
			if err := f.follow(newLineReader(r), c.events, func(int, int64) {}); (err == nil) != c.ok {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

func TestQuantiles(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.add(int64(i+1) * int64(time.Microsecond))
	}
	for q, want := range map[float64]time.Duration{.5: 500 * time.Microsecond, .99: 990 * time.Microsecond, 1: time.Millisecond} {
		if got := h.quantile(q); got < want || got > want+want/16 {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
}

func TestVerdictOnSoaks(t *testing.T) {
	series := func(rss ...float64) (out []sample) {
		for _, v := range rss {
			out = append(out, sample{rss: v, goroutines: 10, fds: 10})
		}
		return out
	}
	still := sample{goroutines: 10, fds: 10}
	if err := verdict(series(1, 100, 102), still, still); err != nil {
		t.Errorf("flat: %v", err)
	}
	if verdict(series(1, 100, 106), still, still) == nil {
		t.Error("growing memory passed")
	}
	for _, left := range []sample{{goroutines: 13, fds: 10}, {goroutines: 10, fds: 13}, {goroutines: 10, fds: 10, upstream: 1}, {goroutines: 10, fds: 10, running: 1}} {
		if verdict(series(1, 1, 1), still, left) == nil {
			t.Errorf("passed with %+v left", left)
		}
	}
}
