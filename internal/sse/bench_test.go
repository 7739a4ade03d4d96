package sse

import (
	"bytes"
	"strings"
	"testing"
)

const chunk = `{"id":"chatcmpl-AbC123","object":"chat.completion.chunk","created":1730000000,"model":"gpt-4o-2024-08-06","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}`

func BenchmarkReader(b *testing.B) {
	run := func(name string, stream string, frames int, size int) {
		b.Run(name, func(b *testing.B) {
			in := []byte(stream)
			var r Reader
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				n := 0
				for rest := in; len(rest) > 0; {
					c := rest[:min(size, len(rest))]
					rest = rest[len(c):]
					r.Feed(c)
					for {
						if _, ok := r.Next(); !ok {
							break
						}
						n++
					}
				}
				if n != frames {
					b.Fatalf("%d frames, want %d", n, frames)
				}
			}
		})
	}
	data := "data: " + chunk + "\n\n"
	event := "event: content_block_delta\ndata: " + chunk + "\n\n"
	run("data", data, 1, 1<<20)
	run("event", event, 1, 1<<20)
	run("event-crlf", strings.ReplaceAll(event, "\n", "\r\n"), 1, 1<<20)
	run("data-100", strings.Repeat(data, 100), 100, 1<<20)
	run("data-100-cut-1000", strings.Repeat(data, 100), 100, 1000)
	run("data-16MiB-cut-16KiB", "data: "+strings.Repeat("x", 16<<20-16)+"\n\n", 1, 16<<10)
}

// BenchmarkIndexByte is what the common case can at best cost.
func BenchmarkIndexByte(b *testing.B) {
	in := []byte("data: " + chunk + "\n\n")
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if bytes.IndexByte(in, '\n') < 0 || bytes.IndexByte(in, '\r') >= 0 {
			b.Fatal()
		}
	}
}
