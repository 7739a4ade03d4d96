package translate

var ticosProtocol = Protocol{Name: "ticos"}
