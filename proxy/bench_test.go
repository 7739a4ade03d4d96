package proxy

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/translate"
)

// fixedBackend answers every request with the same bytes.
func fixedBackend(b *testing.B, answer []byte) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					length := 0
					for {
						line, err := r.ReadSlice('\n')
						if err != nil {
							return
						}
						if len(line) == 2 {
							break
						}
						if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
							length, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
						}
					}
					if _, err := r.Discard(length); err != nil {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// BenchmarkProxy is a request through the whole proxy over loopback, client and
// backend included.
func BenchmarkProxy(b *testing.B) {
	content := strings.Repeat("word ", 150)
	body := `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"` + content + `","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`
	json := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	stream := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	for range 64 {
		stream += string(appendChunk(nil, []byte(`data: {"id":"chatcmpl-123456789","object":"chat.completion.chunk","created":1694268190,"model":"gpt-5.4-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" Hello"},"logprobs":null,"finish_reason":null}]}`+"\n\n")))
	}
	stream += string(appendChunk(nil, []byte(backendScripts[0].rest))) + lastChunk
	chat := `{"model":"it","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"Tell me about dragomans."}],"temperature":0.7`
	responses := `{"model":"it","instructions":"You are a helpful assistant.","input":"Tell me about dragomans.","temperature":0.7`
	for _, c := range []struct{ name, answer, path, body string }{
		{"JSON/passed", json, "/v1/chat/completions", chat + `}`},
		{"JSON/translated", json, "/v1/responses", responses + `}`},
		{"stream/passed", stream, "/v1/chat/completions", chat + `,"stream":true}`},
		{"stream/translated", stream, "/v1/responses", responses + `,"stream":true}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			yaml := strings.Replace(agentYAML("chat", fixedBackend(b, []byte(c.answer))), "agents:", "auth: {mode: none}\nlog: {access: false}\nagents:", 1)
			conf, problems := config.Parse("bench.yaml", []byte(yaml), config.Options{Protocols: translate.Names(), OptionCheck: translate.CheckOption})
			if conf == nil {
				b.Fatal(problems)
			}
			s, err := New(conf, zap.NewNop(), nil)
			if err != nil {
				b.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- s.Serve(ln) }()
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			r := bufio.NewReaderSize(conn, 64<<10)
			request := []byte("POST " + c.path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(c.body)) + "\r\n\r\n" + c.body)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Write(request); err != nil {
					b.Fatal(err)
				}
				if err := passOver(r); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			_ = conn.Close()
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = s.Shutdown(ctx)
			<-done
		})
	}
}

// passOver reads one answer and allocates nothing.
func passOver(r *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return io.ErrUnexpectedEOF
		}
		if len(line) == 2 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length = 0
			for _, d := range bytes.TrimSpace(v) {
				length = 10*length + int(d-'0')
			}
		}
	}
	if length >= 0 {
		_, err := r.Discard(length)
		return err
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		n := 0
		for _, d := range bytes.TrimSpace(line) {
			n = n<<4 | hexValue(d)
		}
		if _, err := r.Discard(n + 2); err != nil || n == 0 {
			return err
		}
	}
}
