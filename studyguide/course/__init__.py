"""All that faces the learner: exercises, hints, progress, quizzes, figures and printed results."""

from studyguide.course.display import show, show_figure, table
from studyguide.course.exercises import check, hint, solution
from studyguide.course.quizzes import cards, quiz
from studyguide.course.records import progress
from studyguide.course.style import begin

__all__ = ["begin", "cards", "check", "hint", "progress", "quiz", "show", "show_figure", "solution", "table"]
