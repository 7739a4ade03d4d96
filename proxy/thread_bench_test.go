package proxy

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/state"
)

// BenchmarkTurn is what it takes to read a conversation of so many turns, and to keep the next one: reading costs what is
// read, keeping costs the turn.
func BenchmarkTurn(b *testing.B) {
	text := strings.Repeat("word ", 100)
	for _, n := range []int{10, 1000} {
		for name, open := range map[string]func() (state.Store, error){
			"memory": func() (state.Store, error) { return state.NewMemory(state.Limits{}), nil },
			"file":   func() (state.Store, error) { return state.OpenFile(b.TempDir()+"/state.db", state.Limits{}) },
		} {
			s, err := open()
			if err != nil {
				b.Fatal(err)
			}
			ctx := context.Background()
			prev := ""
			keep := func(name string) {
				tu := keptTurn{prev: prev, agent: "it", by: "it", at: 1, in: `{"type":"message","role":"user","content":"` + text + `"}`, out: `{"type":"message","role":"assistant","content":"` + text + `"}`}
				c := state.Change{Put: []state.Entry{{Ref: turnRef("c", name), Value: tu.append(nil)}, {Ref: objectRef("c", name), Value: []byte(text)}}}
				if prev != "" {
					c.Need = []state.Ref{turnRef("c", prev)}
				}
				if err := s.Save(ctx, "ann", c); err != nil {
					b.Fatal(err)
				}
			}
			for i := range n {
				name := fmt.Sprintf("%016x", i)
				keep(name)
				prev = name
			}
			b.Run(fmt.Sprintf("%s/keep/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					keep("next")
				}
			})
			b.Run(fmt.Sprintf("%s/read/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					f, err := s.Read(ctx, "ann", state.Read{Convs: []string{"c"}})
					if err != nil {
						b.Fatal(err)
					}
					if turns, ok := chain(f.Turns[0], prev); !ok || len(turns) != n {
						b.Fatal(len(turns))
					}
				}
			})
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
