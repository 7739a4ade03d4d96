package translate

var cyclsProtocol = Protocol{Name: "cycls"}
