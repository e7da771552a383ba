/// A device as its user names it: `cpu`, `gpu` or `gpu:N`.
public enum DeviceName: Hashable, Sendable {
  case cpu
  case gpu(Int)

  public init?(_ text: String) {
    switch text {
    case "cpu": self = .cpu
    case "gpu": self = .gpu(0)
    default:
      guard text.hasPrefix("gpu:"), let number = Int(text.dropFirst(4)), number >= 0 else { return nil }
      self = .gpu(number)
    }
  }
}
