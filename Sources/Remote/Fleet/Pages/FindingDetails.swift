import FoundationEssentials

/// What a kept finding's JSON says beside its columns.
struct FindingDetails: Decodable {
  struct Evidence: Decodable {
    var what: String?
    var address: String?
    var symbol: String?
    var seen: String?
    var expected: String?

    /// As people read it.
    var text: String {
      var text = what ?? ""
      if let address { text += " at \(address)" }
      if let symbol { text += " (\(symbol))" }
      if let seen { text += ": \(seen)" }
      if let expected { text += ", expected \(expected)" }
      return text
    }
  }

  var evidence: [Evidence]?
  var remedy: String?
  var attack: [String]?

  /// Takes it apart; empty where it is none.
  init(_ json: [UInt8]) {
    self = (try? JSONDecoder().decode(FindingDetails.self, from: Data(Self.decodable(json)))) ?? FindingDetails()
  }

  private init() {}

  /// Bytes that are no UTF-8 are halves of surrogate pairs in it, which decoders refuse: each becomes the sign for what is none.
  static func decodable(_ json: [UInt8]) -> [UInt8] {
    var json = json
    var index = 0
    let mark = Array("udc".utf8)
    while index + 5 < json.count {
      guard json[index] == UInt8(ascii: "\\") else {
        index += 1
        continue
      }
      if json[(index + 1)..<(index + 4)].elementsEqual(mark) {
        json.replaceSubrange((index + 2)..<(index + 6), with: Array("fffd".utf8))
      }
      // What is escaped is no escape itself.
      index += 2
    }
    return json
  }
}
