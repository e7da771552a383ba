import Mustache

/// Escapes text for HTML by scalars.
///
/// Mustache's own goes by characters: a quote with an accent that combines with it is another character to it, stays as it is, and ends
/// an attribute. Names on a watched host may hold just that.
struct PageText: MustacheContentType {
  /// What templates call it: `{{% CONTENT_TYPE: PAGE}}`.
  static let name = "PAGE"

  func escapeText(_ text: String) -> String { Self.escaped(text) }

  static func escaped(_ text: String) -> String {
    var escaped = ""
    escaped.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      switch scalar {
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "&": escaped += "&amp;"
      case "\"": escaped += "&quot;"
      case "'": escaped += "&#39;"
      // Neither control characters nor what turns the direction of a line.
      case "\n", "\t": escaped.unicodeScalars.append(scalar)
      default:
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .unassigned, .privateUse:
          escaped += "\u{fffd}"
        default: escaped.unicodeScalars.append(scalar)
        }
      }
    }
    return escaped
  }
}
