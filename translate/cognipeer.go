package translate

var cognipeerProtocol = Protocol{Name: "cognipeer"}
