package translate

var chatProtocol = Protocol{Name: "chat"}
