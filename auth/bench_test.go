package auth

import "testing"

// BenchmarkAuthenticate is what every request pays: a key that is known or not, and a token that was seen before or not.
func BenchmarkAuthenticate(b *testing.B) {
	keys := testKeys()
	for range 1000 {
		k, err := GenerateKey()
		if err != nil {
			b.Fatal(err)
		}
		keys = append(keys, key("many", k))
	}
	v := newTokens(b, everyAlgorithm(jwks(jwk("r", rsaOne()), jwk("e", ecOne()), jwk("d", ed()))))
	a := newTest(b, Config{Keys: keys, Tokens: v})
	run := func(name string, p Presented, want string, forget bool) {
		b.Run(name, func(b *testing.B) {
			if got := outcome(a.Authenticate(p, now)); got != want {
				b.Fatal(got)
			}
			credential, _ := bearer(p.Authorization)
			hash := HashKey(credential)
			b.ReportAllocs()
			for b.Loop() {
				if forget {
					for i := range v.keys.set.Load().seen.bucket(&hash) {
						v.keys.set.Load().seen.bucket(&hash)[i].Store(nil)
					}
				}
				who, err := a.Authenticate(p, now)
				if (err == nil) != (who != nil) {
					b.Fatal(who, err)
				}
			}
		})
	}
	run("key=known", present(liveKey), "front", false)
	run("key=x-api-key", Presented{APIKey: []byte(liveKey)}, "front", false)
	run("key=unknown", present(unknownKey), "rejected: unknown key", false)
	run("key=missing", Presented{}, "rejected: no credential", false)
	run("key=malformed", Presented{Authorization: []byte("Bearer  " + liveKey)}, "rejected: malformed credential", false)
	rs, es, eddsa := sign(rsaOne(), object{"kid": "r"}, good()), sign(ecOne(), object{"kid": "e"}, good()), sign(ed(), object{"kid": "d"}, good())
	run("token=seen", present(rs), me, false)
	run("token=RS256", present(rs), me, true)
	run("token=ES256", present(es), me, true)
	run("token=EdDSA", present(eddsa), me, true)
	run("token=forged", present(rs[:len(rs)-8]+"AAAAAAAA"), tokenSignature, false)
}

// BenchmarkParallel is keys and seen tokens from all processors at once.
func BenchmarkParallel(b *testing.B) {
	a := newTest(b, Config{Keys: testKeys(), Tokens: newTokens(b, everyAlgorithm(jwks(jwk("e", ecOne()))))})
	p := []Presented{present(liveKey), present(sign(ecOne(), object{"kid": "e"}, good()))}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := a.Authenticate(p[i%2], now); err != nil {
				b.Error(err)
			}
		}
	})
}
