extension Array {
  /// The first index from which on `isBehind` holds; `endIndex` where there is none.
  ///
  /// For arrays whose elements for which it holds come last. Cost: a binary search.
  func partitioningIndex(where isBehind: (Element) -> Bool) -> Int {
    var (low, high) = (startIndex, endIndex)
    while low < high {
      let middle = (low + high) / 2
      if isBehind(self[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
