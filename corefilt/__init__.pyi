from corefilt.api import Core as Core
from corefilt.api import Plan as Plan
from corefilt.api import filter_core as filter
from corefilt.api import open_core as open
from corefilt.batching.run import batch as batch
from corefilt.coredump_filter import CoredumpFilter as CoredumpFilter
from corefilt.errors import CorefiltError as CorefiltError
from corefilt.filtering.report import Report as Report
from corefilt.plan.plan import Mapping as Mapping

__all__ = ["Core", "CoredumpFilter", "CorefiltError", "Mapping", "Plan", "Report", "batch", "filter", "open"]
__version__: str
