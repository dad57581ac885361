"""The report: what a run or a bundle holds, as one HTML file that needs nothing else."""

import sys

from pigen import CalledPackage
from pigen.report.build import prepare, report_of_chunks, report_of_run
from pigen.report.content import Report
from pigen.report.page import to_html

__all__ = ["Report", "prepare", "report_of_chunks", "report_of_run", "to_html"]

sys.modules[__name__].__class__ = CalledPackage
