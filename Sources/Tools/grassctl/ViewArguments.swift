import ArgumentParser
import KernelViews

/// The options of a view, on a command line: made of what the view declares.
///
/// ArgumentParser finds options by mirroring a value and fills them in by decoding, so both are answered here.
struct ViewArguments<View: KernelView>: ParsableArguments, CustomReflectable {
  /// The option's name and text, in the order in which the view declares them.
  private(set) var texts: [(name: String, text: String)] = []

  init() {}

  var customMirror: Mirror {
    Mirror(
      self,
      children: View.Options().all.map { option -> Mirror.Child in
        let name: NameSpecification = option.short.map { [.customShort($0), .long] } ?? .long
        let help = ArgumentHelp(stringLiteral: option.help)
        var valued = help
        valued.valueName = option.valueName
        let value: Any =
          if option.isFlag {
            Flag(wrappedValue: false, name: name, help: help) as Flag<Bool>
          } else if option.isArgument, option.takesMany {
            Argument(wrappedValue: [], help: valued.named(option.name)) as Argument<[String]>
          } else if option.isArgument, option.isRequired {
            Argument(help: valued.named(option.name)) as Argument<String>
          } else if option.isArgument {
            Argument(help: valued.named(option.name)) as Argument<String?>
          } else if option.takesMany {
            Option(wrappedValue: [], name: name, parsing: .singleValue, help: valued) as Option<[String]>
          } else if option.isRequired {
            Option(name: name, help: valued) as Option<String>
          } else {
            Option(name: name, help: valued) as Option<String?>
          }
        return (label: option.name, value: value)
      })
  }

  private struct Key: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    for option in View.Options().all {
      let key = Key(stringValue: option.name)
      var given: [String] = []
      if option.isFlag {
        given = try container.decode(Flag<Bool>.self, forKey: key).wrappedValue ? ["yes"] : []
      } else if option.isArgument, option.takesMany {
        given = try container.decode(Argument<[String]>.self, forKey: key).wrappedValue
      } else if option.isArgument, option.isRequired {
        given = [try container.decode(Argument<String>.self, forKey: key).wrappedValue]
      } else if option.isArgument {
        given = try container.decode(Argument<String?>.self, forKey: key).wrappedValue.map { [$0] } ?? []
      } else if option.takesMany {
        given = try container.decode(Option<[String]>.self, forKey: key).wrappedValue
      } else if option.isRequired {
        given = [try container.decode(Option<String>.self, forKey: key).wrappedValue]
      } else {
        given = try container.decode(Option<String?>.self, forKey: key).wrappedValue.map { [$0] } ?? []
      }
      texts += given.map { (option.name, $0) }
    }
  }

  /// The view's own options.
  func options() throws -> View.Options {
    do throws(ViewOptionError) {
      return try View.Options(texts)
    } catch {
      throw ValidationError("\(error)")
    }
  }

  func validate() throws { _ = try options() }
}

extension ArgumentHelp {
  fileprivate func named(_ name: String) -> ArgumentHelp {
    var help = self
    help.valueName = name
    return help
  }
}
