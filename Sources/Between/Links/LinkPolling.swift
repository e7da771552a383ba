/// How a record that may not be there yet is best asked for, where it is long.
public enum LinkPolling: Sendable {
  /// By its head until it is there: what is not there costs as much as what is.
  case head
  /// Whole the first time, since the other side waits a little for it; then by its head.
  case wholeOnce
  /// Whole each time: what is not there costs nothing.
  case whole
}
