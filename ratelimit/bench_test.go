package ratelimit

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// everything limits each dimension, so widely that a benchmark never meets a limit.
var everything = Limits{
	Requests:   Rate{Events: 1_000_000_000, Per: time.Second},
	Tokens:     Rate{Events: 1_000_000_000, Per: time.Millisecond},
	Concurrent: 1000,
}

func threeScopes(l *Limiter) [3]*Scope {
	return [3]*Scope{l.Scope(Key, "key", everything), l.Scope(Agent, "agent", everything), l.Scope(Global, "", everything)}
}

func once(tb testing.TB, l *Limiter, s [3]*Scope, g *Grant) {
	if r := l.Take(context.Background(), s, 1234, g); r != nil {
		tb.Fatal(r)
	}
	if r := l.Wait(nil, g); r != nil {
		tb.Fatal(r)
	}
	g.Settle(1000)
	g.Release()
}

func BenchmarkDecision(b *testing.B) {
	b.Run("three scopes", func(b *testing.B) {
		l := New(Options{})
		s := threeScopes(l)
		var g Grant
		b.ReportAllocs()
		for b.Loop() {
			once(b, l, s, &g)
		}
	})
	b.Run("contended", func(b *testing.B) {
		l := New(Options{})
		s := threeScopes(l)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			var g Grant
			for pb.Next() {
				once(b, l, s, &g)
			}
		})
	})
	b.Run("requests of a key", func(b *testing.B) {
		l := New(Options{})
		s := [3]*Scope{l.Scope(Key, "key", Limits{Requests: everything.Requests})}
		var g Grant
		b.ReportAllocs()
		for b.Loop() {
			once(b, l, s, &g)
		}
	})
	b.Run("subject", func(b *testing.B) {
		l := New(Options{})
		var g Grant
		b.ReportAllocs()
		for b.Loop() {
			once(b, l, [3]*Scope{l.Subject("https://issuer.example|someone", everything)}, &g)
		}
	})
	b.Run("refused", func(b *testing.B) {
		l := New(Options{})
		s := [3]*Scope{l.Scope(Key, "key", Limits{Requests: Rate{Events: 1, Per: time.Hour}})}
		var g Grant
		l.Take(context.Background(), s, 0, &g)
		b.ReportAllocs()
		for b.Loop() {
			if l.Take(context.Background(), s, 0, &g) == nil {
				b.Fatal("admitted")
			}
		}
	})
}

func BenchmarkHeaders(b *testing.B) {
	q := Quota{Limit: 60, Remaining: 59, Reset: time.Second, Next: time.Second, Rate: Rate{60, time.Minute, 60}, Limited: true}
	s := Status{Requests: q, Tokens: q}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		s.Headers(now, func(string, string) {})
	}
}

func BenchmarkEstimateInput(b *testing.B) {
	for name, body := range map[string][]byte{
		"text":  []byte(strings.Repeat("Where is my order? ", 1<<16)),
		"media": bytes.Repeat([]byte("iVBORw0KGgoAAAANSUhEUgAA"), 1<<16),
		// As much work as a body can make: runs that just are none, and have to be walked.
		"worst": []byte(strings.Repeat(strings.Repeat("x", mediaRun-1)+" ", 1<<10)),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				EstimateInput(body)
			}
		})
	}
}
