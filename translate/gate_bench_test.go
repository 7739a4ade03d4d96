package translate

import (
	"strings"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// BenchmarkCheckBody is what the gate costs, beside the bare check of the grammar.
func BenchmarkCheckBody(b *testing.B) {
	message := `{"role":"user","content":"` + strings.Repeat("The quick brown fox jumps over the lazy dog. ", 4) + `"}`
	for name, body := range map[string]string{
		"small":     `{"model":"support","messages":[{"role":"user","content":"hello"}],"stream":true}`,
		"100KiB":    `{"model":"support","messages":[` + strings.Repeat(message+",", 480) + message + `],"stream":true}`,
		"1MiB-text": `{"model":"support","messages":[{"role":"user","content":"` + strings.Repeat("x", 1<<20) + `"}]}`,
		"bomb-4MiB": strings.Repeat(`{"a":[`, 4<<20/6),
		"keys-4MiB": "[" + strings.Repeat(`{`+manyKeys(512<<10)+`"x":0},`, 8) + "{}]",
	} {
		in := []byte(body)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				CheckBody(in)
			}
		})
		b.Run(name+"/grammar", func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				jsonx.Valid(in)
			}
		})
	}
}
