"""All that faces the learner: exercises, hints, progress, quizzes, figures and printed results."""

from studyguide.course.style import begin
from studyguide.course.display import show, show_figure, table
from studyguide.course.exercises import check, hint, solution
from studyguide.course.records import progress
from studyguide.course.quizzes import cards, quiz

__all__ = ["begin", "cards", "check", "hint", "progress", "quiz", "show", "show_figure", "solution", "table"]
