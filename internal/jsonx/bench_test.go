package jsonx

import (
	"encoding/json"
	"strings"
	"testing"
)

var fixtures = []struct{ name, doc string }{
	{"chunk", chatChunk},
	{"text-4KiB", `{"text":"` + strings.Repeat("The quick brown fox jumps over the lazy dog. ", 91) + `"}`},
	{"text-1MiB", `{"text":"` + strings.Repeat("The quick brown fox jumps over the lazy dog. ", 23302) + `"}`},
	{"code-4KiB", `{"text":"` + strings.Repeat(`if x == \"y\" {\n\treturn z\n}\n`, 128) + `"}`},
	{"cjk-4KiB", `{"text":"` + strings.Repeat("日本語のテキスト", 170) + `"}`},
	{"numbers", `[` + strings.Repeat("0.0123456,-0.98765432,", 200) + `1]`},
	{"pretty", strings.Repeat("[\n  {\n    \"role\": \"user\",\n    \"content\": \"hello there\"\n  }\n,", 20) + "1" + strings.Repeat("\n]", 20)},
}

func BenchmarkWalkChunk(b *testing.B) {
	in := []byte(chatChunk)
	var d Dec
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		var c chat
		d.Reset(in)
		c.walk(&d)
		if d.End() != nil {
			b.Fatal(d.Err())
		}
	}
}

func BenchmarkSkip(b *testing.B) {
	for _, f := range fixtures {
		b.Run(f.name, func(b *testing.B) {
			in := []byte(f.doc)
			var d Dec
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				d.Reset(in)
				d.Skip()
				if d.End() != nil {
					b.Fatal(d.Err())
				}
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, f := range fixtures {
		b.Run(f.name, func(b *testing.B) {
			in := []byte(f.doc)
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				if err := Check(in, CheckOptions{UTF8: true, Duplicates: 3}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkStr(b *testing.B) {
	for _, f := range fixtures[1:5] {
		b.Run(f.name, func(b *testing.B) {
			in := []byte(f.doc)
			var d Dec
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				d.Reset(in)
				d.Object()
				d.Key()
				if _, ok := d.Str(); !ok {
					b.Fatal(d.Err())
				}
			}
		})
	}
}

func BenchmarkAppendString(b *testing.B) {
	for _, f := range fixtures[1:5] {
		b.Run(f.name, func(b *testing.B) {
			var m map[string]string
			if err := json.Unmarshal([]byte(f.doc), &m); err != nil {
				b.Fatal(err)
			}
			var dst []byte
			b.ReportAllocs()
			b.SetBytes(int64(len(m["text"])))
			for b.Loop() {
				dst = AppendStringS(dst[:0], m["text"])
			}
		})
	}
	b.Run("token", func(b *testing.B) {
		var dst []byte
		b.ReportAllocs()
		for b.Loop() {
			dst = AppendStringS(dst[:0], " token")
		}
	})
}

func BenchmarkScanner(b *testing.B) {
	for _, f := range fixtures {
		b.Run(f.name, func(b *testing.B) {
			in := []byte(f.doc)
			var s Scanner
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				s.Reset()
				s.Write(in)
				if !s.Complete() {
					b.Fatal()
				}
			}
		})
	}
}

// BenchmarkStandard is encoding/json on the same documents.
func BenchmarkStandard(b *testing.B) {
	for _, f := range fixtures {
		b.Run(f.name, func(b *testing.B) {
			in := []byte(f.doc)
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				if !json.Valid(in) {
					b.Fatal()
				}
			}
		})
	}
}
