package proxy

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// benchBackend answers every request with the same writes, and does as little
// as it can otherwise.
func benchBackend(b *testing.B, writes ...[]byte) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p := make([]byte, 16<<10)
			for {
				n, err := c.Read(p)
				if err != nil || !bytes.HasSuffix(p[:n], []byte("}")) {
					break
				}
				for _, w := range writes {
					if _, err := c.Write(w); err != nil {
						break
					}
				}
			}
			_ = c.Close()
		}
	}()
	b.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

func benchRequest() (head, body []byte) {
	body = []byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("word ", 100) + `"}]}`)
	head = []byte("POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\nAccept: application/json\r\nAccept-Encoding: identity\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n")
	return head, body
}

const benchHead = "HTTP/1.1 200 OK\r\ndate: Sun, 01 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\ncontent-type: application/json\r\nx-request-id: 0123456789abcdef\r\n"

var benchLimit = deadlines{FirstByte: 10 * time.Minute, Idle: 5 * time.Minute}

func BenchmarkRoundTripJSON(b *testing.B) {
	answer := []byte(`{"id":"chatcmpl-1","choices":[{"message":{"content":"` + strings.Repeat("word ", 200) + `"}}]}`)
	wire := []byte(benchHead + "content-length: " + strconv.Itoa(len(answer)) + "\r\n\r\n" + string(answer))
	head, body := benchRequest()

	o := newOrigin(originConfig{Scheme: "http", Addr: benchBackend(b, wire)})
	defer o.close()
	var cn cancel
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		l := benchLimit
		l.Total = time.Now().Add(time.Hour)
		x, err := o.roundTrip(&cn, head, body, l)
		if err != nil {
			b.Fatal(err)
		}
		if dst, err = x.readAll(dst[:0], 1<<20); err != nil || len(dst) != len(answer) {
			b.Fatal(len(dst), err)
		}
		x.finish(true)
		cn.reset()
	}
}

// BenchmarkRoundTripStream reads a stream of 64 events, each a chunk and a write
// of its own, as fast as they come.
func BenchmarkRoundTripStream(b *testing.B) {
	event := []byte(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}` + "\n\n")
	const events = 64
	separate := [][]byte{[]byte(strings.Replace(benchHead, "application/json", "text/event-stream", 1) + "transfer-encoding: chunked\r\n\r\n")}
	for range events {
		separate = append(separate, appendChunk(nil, event))
	}
	separate = append(separate, []byte(lastChunk))
	head, body := benchRequest()
	for _, bm := range []struct {
		name   string
		writes [][]byte
	}{
		{"events alone", separate},
		{"events together", [][]byte{bytes.Join(separate, nil)}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			o := newOrigin(originConfig{Scheme: "http", Addr: benchBackend(b, bm.writes...)})
			defer o.close()
			var cn cancel
			var total, reads int
			count := func(p []byte) error { total += len(p); reads++; return nil }
			b.ReportAllocs()
			for b.Loop() {
				x, err := o.roundTrip(&cn, head, body, benchLimit)
				if err != nil {
					b.Fatal(err)
				}
				x.releaseHead()
				total = 0
				for err == nil {
					err = x.read(count)
				}
				if err != io.EOF || total != events*len(event) {
					b.Fatal(total, err)
				}
				x.finish(true)
				cn.reset()
			}
			b.ReportMetric(float64(reads)/float64(b.N), "reads/op")
		})
	}
}

func BenchmarkResponseHead(b *testing.B) {
	head := []byte(benchHead + "content-length: 1234\r\n\r\n")
	b.Run("framing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := scanHead(head); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parser", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h, err := parseHead(head)
			if err != nil {
				b.Fatal(err)
			}
			respHeaders.Put(h)
		}
	})
}
